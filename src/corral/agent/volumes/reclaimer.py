"""Removes the directories of volumes that are deleted, then lets the volumes go.

A volume of the class `corral-local` is held by a finalizer as long as its directory stands. The agent watches the
volumes of its own machine; of one that is deleted it removes the directory, unless the policy is to keep it, and then
the finalizer. A directory is renamed before it is removed, so that half of one is never mounted again; what a crash
leaves behind is removed at the next start.
"""

import asyncio
import logging
from collections.abc import Callable, Set
from contextlib import suppress
from pathlib import Path

from corral.agent.runtime import trees
from corral.base.clock import Clock
from corral.client.client import Client
from corral.client.informer import Event, Informer
from corral.kinds.resources import PERSISTENT_VOLUMES
from corral.kinds.status import StatusError
from corral.kinds.storage import LOCAL_FINALIZER, MACHINE, is_local, read_reference
from corral.kinds.types import Key, Obj
from corral.machinery import finalizers

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0
_REMOVED = ".removed-"


class VolumeReclaimer:
    """See the module.

    Args:
        directory: where the machine keeps its volumes.
        in_use: the claims that pods on this machine have.
    """

    def __init__(
        self, client: Client, machine: str, directory: Path, clock: Clock, in_use: Callable[[], Set[Key]]
    ) -> None:
        self._client = client
        self._directory = directory
        self._clock = clock
        self._in_use = in_use
        self._volumes = Informer(client, PERSISTENT_VOLUMES, label_selector=f"{MACHINE}={machine}", clock=clock)
        self._news = asyncio.Event()
        self._volumes.on_event(self._note)

    def _note(self, _: Event) -> None:
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled."""
        await asyncio.to_thread(self._clear)
        watching = asyncio.create_task(self._volumes.run(), name="volumes of this machine")
        alarm = asyncio.create_task(asyncio.sleep(0))
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                if not await self._reclaim_all() and alarm.done():
                    alarm = asyncio.create_task(self._ring(), name="volumes to look at again")
        finally:
            watching.cancel()
            alarm.cancel()
            await asyncio.gather(watching, alarm, return_exceptions=True)

    async def _ring(self) -> None:
        await self._clock.sleep(_RETRY_SECONDS)
        self._news.set()

    async def _reclaim_all(self) -> bool:
        """Whether nothing is left to do."""
        done = True
        for volume in list(self._volumes.items()):
            if finalizers.is_deleting(volume) and finalizers.has(volume, LOCAL_FINALIZER) and is_local(volume):
                try:
                    done &= await self._reclaim(volume)
                except (StatusError, OSError) as error:
                    # A conflict: somebody else let go of it in the same moment.
                    level = logging.DEBUG if isinstance(error, StatusError) and error.code == 409 else logging.WARNING
                    logger.log(level, "cannot reclaim volume %s, will retry: %s", volume["metadata"]["name"], error)
                    done = False
        return done

    async def _reclaim(self, volume: Obj) -> bool:
        reference = volume["spec"].get("claimRef")
        if reference and read_reference(reference).key in self._in_use():
            return False
        if volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            await asyncio.to_thread(self._remove, volume["metadata"]["name"])
        await finalizers.remove(self._client, PERSISTENT_VOLUMES, volume, LOCAL_FINALIZER)
        return True

    def _remove(self, name: str) -> None:
        # The API allows names of DNS form only; this does not rely on it.
        if "/" in name or name.startswith("."):
            raise OSError(f"{name!r} is no name of a volume")
        gone = self._directory / f"{_REMOVED}{name}"
        with suppress(FileNotFoundError):
            (self._directory / name).rename(gone)
        trees.remove(gone)

    def _clear(self) -> None:
        for leftover in self._directory.glob(f"{_REMOVED}*"):
            try:
                trees.remove(leftover)
            except OSError as error:
                logger.warning("cannot remove %s, will retry at the next start: %s", leftover, error)
