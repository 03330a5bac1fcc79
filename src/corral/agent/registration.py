"""Registering the machine and keeping its Node fresh."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from corral.agent.machine import Machine
from corral.agent.node import NodeSpec, new_node, patch, significant, status
from corral.agent.podnetwork import PodNetwork
from corral.agent.problems.api import Finding
from corral.agent.runtime.api import Image, Runtime, RuntimeFailure
from corral.agent.waiting import wait
from corral.base.backoff import Backoff
from corral.base.clock import Clock
from corral.client.api import MERGE_PATCH, STRATEGIC_MERGE_PATCH
from corral.client.client import Client
from corral.kinds.resources import NODES
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

logger = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
REPORT_SECONDS = 300.0
_NETWORK_SECONDS = 1.0
_RETRY = Backoff(initial=0.2, maximum=2.0)
"""Soon enough to hear again that the only server does not run, before what an earlier agent promised is due."""


class Registration:
    """The machine's Node in the API; `findings` is what its conditions are made of."""

    def __init__(
        self,
        client: Client,
        runtime: Runtime,
        machine: Machine,
        clock: Clock,
        findings: Callable[[], Sequence[Finding]],
        network: PodNetwork,
    ) -> None:
        self._client = client
        self._runtime = runtime
        self._machine = machine
        self._clock = clock
        self._findings = findings
        self._network = network
        self._written: Obj = {}
        self._due = asyncio.Event()
        self.node: Obj = {}
        """The Node as last seen."""

    async def register(
        self, spec: NodeSpec, failed: Callable[[StatusError | OSError, float], None] = lambda error, sent: None
    ) -> None:
        """Create or update the Node with its labels and a first status; retried until the API server takes it.

        `failed` hears of each failed attempt: its error, and by the clock's monotonic seconds when it began.
        """
        attempt = 0
        while True:
            began = self._clock.monotonic()
            try:
                await self._register(spec)
                # A moment is enough where there is a controller, and saves telling twice.
                await wait(self._network.settled, self._clock, _NETWORK_SECONDS)
                await self._report(spec)
                return
            except (StatusError, OSError) as error:
                level = logging.DEBUG if isinstance(error, OSError) else logging.WARNING
                logger.log(level, "cannot register node %s, will retry: %s", self._machine.name, error)
                failed(error, began)
                await self._clock.sleep(_RETRY.delay(attempt))
                attempt += 1

    async def _register(self, spec: NodeSpec) -> None:
        wanted = new_node(self._machine, spec, self._network.proposal)
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
            lacks = {"metadata": missing}
            self.node = await self._client.patch(NODES, self._machine.name, lacks, kind=MERGE_PATCH)
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
                logger.debug("cannot report node %s, will retry: %s", self._machine.name, error)

    def missed(self) -> None:
        """The server has written a status of its own: report ours at once."""
        self._written = {}
        self._due.set()

    def changed(self) -> None:
        """Something was found: report it at once."""
        self._due.set()

    async def _report(self, spec: NodeSpec) -> None:
        await self._write(await self._status(spec))

    async def _status(self, spec: NodeSpec) -> Obj:
        images: Sequence[Image] = ()
        try:
            images = await self._runtime.images.list()
        except (RuntimeFailure, OSError) as error:
            logger.warning("cannot list the images of node %s: %s", self._machine.name, error)
        old = self.node.get("status") or {}
        return status(self._machine, spec, self._findings(), images, old, self._clock.now())

    async def _write(self, fresh: Obj) -> None:
        self.node = await self._client.patch(
            NODES, self._machine.name, patch(fresh), kind=STRATEGIC_MERGE_PATCH, subresource="status"
        )
        self._written = significant(fresh)
