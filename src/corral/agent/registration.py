"""Registering the machine and keeping its Node fresh."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from corral.agent import machine as facts
from corral.agent.machine import Machine
from corral.agent.node import Health, NodeSpec, new_node, significant, status
from corral.agent.runtime.api import Image, Runtime, RuntimeFailure
from corral.agent.waiting import wait
from corral.base.backoff import Backoff
from corral.base.clock import Clock
from corral.client.api import MERGE_PATCH
from corral.client.client import Client
from corral.kinds.resources import NODES
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
REPORT_SECONDS = 300.0
_RETRY = Backoff(initial=0.2, maximum=7.0)


class Registration:
    """The machine's Node in the API."""

    def __init__(self, client: Client, runtime: Runtime, machine: Machine, directory: Path, clock: Clock) -> None:
        self._client = client
        self._runtime = runtime
        self._machine = machine
        self._directory = directory
        self._clock = clock
        self._written: Obj = {}
        self._due = asyncio.Event()
        self.node: Obj = {}
        """The Node as last seen."""

    async def register(self, spec: NodeSpec) -> None:
        """Create or update the Node with its labels and a first status; retried until the API server takes it."""
        attempt = 0
        while True:
            try:
                await self._register(spec)
                await self._report(spec)
                return
            except (StatusError, OSError) as error:
                logger.warning("cannot register node %s, will retry: %s", self._machine.name, error)
                await self._clock.sleep(_RETRY.delay(attempt))
                attempt += 1

    async def _register(self, spec: NodeSpec) -> None:
        wanted = new_node(self._machine, spec)
        try:
            self.node = await self._client.create(NODES, wanted)
            return
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
        self.node = await self._client.get(NODES, self._machine.name)
        missing: Obj = {}
        for field in ("labels", "annotations"):
            have = self.node["metadata"].get(field) or {}
            lacking = {
                name: value for name, value in (wanted["metadata"].get(field) or {}).items() if have.get(name) != value
            }
            if lacking:
                missing[field] = lacking
        if missing:
            patch = {"metadata": missing}
            self.node = await self._client.patch(NODES, self._machine.name, patch, kind=MERGE_PATCH)
        self._written = {}

    async def keep_status(self, spec: NodeSpec, beat: Callable[[], None] = lambda: None) -> None:
        """Look every few seconds; report what has changed at once, and everything every five minutes."""
        reported = self._clock.monotonic()
        while True:
            await wait(self._due, self._clock, LOOK_SECONDS)
            self._due.clear()
            beat()
            now = self._clock.monotonic()
            try:
                fresh = await self._status(spec)
                if significant(fresh) != self._written or now - reported >= REPORT_SECONDS:
                    await self._write(fresh)
                    reported = now
            except StatusError as error:
                if error.code == 404:
                    await self.register(spec)
                else:
                    logger.warning("cannot report node %s, will retry: %s", self._machine.name, error)
            except OSError as error:
                logger.warning("cannot report node %s, will retry: %s", self._machine.name, error)

    def missed(self) -> None:
        """The server has written a status of its own: report ours at once."""
        self._written = {}
        self._due.set()

    async def _report(self, spec: NodeSpec) -> None:
        await self._write(await self._status(spec))

    async def _status(self, spec: NodeSpec) -> Obj:
        images: Sequence[Image] = ()
        trouble = ""
        try:
            images = await self._runtime.images.list()
        except (RuntimeFailure, OSError) as error:
            trouble = f"container runtime is down: {error}"
        processes, limit = facts.processes()
        health = Health(facts.memory_available(), facts.disk_used_share(self._directory), processes, limit, trouble)
        return status(self._machine, spec, health, images, self.node.get("status") or {}, self._clock.now())

    async def _write(self, fresh: Obj) -> None:
        patch = {"status": fresh}
        self.node = await self._client.patch(NODES, self._machine.name, patch, kind=MERGE_PATCH, subresource="status")
        self._written = significant(fresh)
