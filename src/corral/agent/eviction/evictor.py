"""Relieving a machine that runs short: first what nobody needs any more, then one pod at a time, until it is over. And
holding pods to their limits of local storage, before that is necessary."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Final, Protocol

from corral.agent.eviction.limits import DiskUse, beyond, is_limited
from corral.agent.eviction.plan import Resident, Shortage, rejection, shortage, victim
from corral.agent.layout import Layout
from corral.agent.podstate.model import Observed, Rejection
from corral.agent.problems.api import Finding
from corral.agent.problems.pressure import PRESSURES, Reading
from corral.agent.runtime import spawn
from corral.agent.runtime.api import Container, ContainerState, Runtime
from corral.agent.waiting import wait
from corral.base.clock import Clock
from corral.base.errors import CorralError
from corral.kinds.types import Obj

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 30.0
"""When nothing was to be done, or nothing has helped, it is looked at again after this: looking costs, too."""
_END_SECONDS: Final = 30.0
"""How long a pod that was told to leave is waited for before the next one is looked for."""
_COUNT_SECONDS: Final = 60.0


class Tenant(Protocol):
    """A pod's worker."""

    pod: Obj
    status: Obj
    seen: Observed

    def evict(self, rejection: Rejection) -> None:
        """End the pod for good."""

    def clear(self) -> None:
        """What an ended pod has on the machine is wanted no more."""

    def end_of(self, container_id: str) -> asyncio.Event:
        """Set when the container has ended."""


class Evictor:
    """Looks after pressure until cancelled.

    Args:
        finding: what a condition says now.
        read: what is left of the machine at this moment.
        tenants: the workers of all pods.
        reclaim: removes images and dead containers that nobody uses.
        tell: an event about the machine: reason, message.
    """

    def __init__(
        self,
        runtime: Runtime,
        layout: Layout,
        clock: Clock,
        *,
        finding: Callable[[str], Finding | None],
        read: Callable[[], Awaitable[Reading]],
        tenants: Callable[[], Iterable[Tenant]],
        reclaim: Callable[[], Awaitable[None]],
        tell: Callable[[str, str], None],
    ) -> None:
        self._runtime = runtime
        self._layout = layout
        self._clock = clock
        self._finding = finding
        self._read = read
        self._tenants = tenants
        self._reclaim = reclaim
        self._tell = tell
        self._not_before: dict[str, float] = {}

    async def run(self) -> None:
        while True:
            await self._clock.sleep(_LOOK_SECONDS)
            await self._when_due("limits", self.hold_to_limits)
            for condition in PRESSURES:
                found = self._finding(condition)
                if found is not None and found.acute:
                    await self._when_due(condition, partial(self.relieve, condition))

    async def _when_due(self, what: str, look: Callable[[], Awaitable[bool]]) -> None:
        """`look`, unless nothing was to be done there a little while ago."""
        if self._clock.monotonic() < self._not_before.get(what, 0.0):
            return
        try:
            helped = await look()
        except (CorralError, OSError) as error:
            logger.warning("cannot look after %s, will retry: %s", what, error)
            helped = False
        self._not_before[what] = self._clock.monotonic() + (0.0 if helped else _PAUSE_SECONDS)

    async def hold_to_limits(self) -> bool:
        """End pods that are beyond a limit of theirs; whether there was one."""
        tenants = [tenant for tenant in self._tenants() if _lives(tenant) and is_limited(tenant.pod)]
        uses = await self._disk_uses(tenants)
        told = [(tenant, beyond(tenant.pod, use)) for tenant, use in zip(tenants, uses, strict=True)]
        for tenant, refused in told:
            if refused is not None:
                await self._end(tenant, refused)
                tenant.clear()
        return any(refused is not None for _, refused in told)

    async def relieve(self, condition: str) -> bool:
        """Do what helps most, once; whether anything did."""
        short = shortage(condition, await self._read())
        if short is not None and condition == "DiskPressure":
            self._tell("EvictionThresholdMet", f"Attempting to reclaim {short.resource}")
            await self._make_room()
            short = shortage(condition, await self._read())
        if short is None:
            return True
        tenants = [tenant for tenant in self._tenants() if _lives(tenant)]
        uses = await self._uses(tenants, short)
        residents = [Resident(tenant.pod, use) for tenant, use in zip(tenants, uses, strict=True)]
        chosen = victim(residents, short)
        if chosen is None:
            logger.warning("this machine is low on %s, and ending no pod would help", short.resource)
            return False
        if condition != "DiskPressure":
            self._tell("EvictionThresholdMet", f"Attempting to reclaim {short.resource}")
        await self._evict(tenants[residents.index(chosen)], chosen, short)
        return True

    async def _make_room(self) -> None:
        for tenant in self._tenants():
            if not _lives(tenant):
                tenant.clear()
        await self._reclaim()

    async def _evict(self, tenant: Tenant, resident: Resident, short: Shortage) -> None:
        await self._end(tenant, rejection(resident, short))
        if short.condition == "DiskPressure":
            tenant.clear()

    async def _end(self, tenant: Tenant, rejected: Rejection) -> None:
        metadata = tenant.pod["metadata"]
        logger.warning("pod %s/%s is evicted: %s", metadata.get("namespace"), metadata["name"], rejected.message)
        running = _running(tenant)
        tenant.evict(rejected)
        until = self._clock.monotonic() + _END_SECONDS
        for container in running:
            await wait(tenant.end_of(container.id), self._clock, until - self._clock.monotonic())

    async def _uses(self, tenants: Sequence[Tenant], short: Shortage) -> list[dict[str, int]]:
        """What each one's containers use of what is short; what it uses beside them is under the empty name."""
        if short.condition == "DiskPressure":
            found = await self._disk_uses(tenants, inodes=short.resource == "inodes")
            return [{**use.containers, "": sum(use.volumes.values())} for use in found]
        return [await self._container_uses(tenant, short.resource) for tenant in tenants]

    async def _container_uses(self, tenant: Tenant, resource: str) -> dict[str, int]:
        uses: dict[str, int] = {}
        for container in _running(tenant):
            usage = await self._runtime.usage(container.id)
            if usage is not None:
                uses[container.name] = usage.working_set_bytes if resource == "memory" else usage.pids
        return uses

    async def _disk_uses(self, tenants: Sequence[Tenant], *, inodes: bool = False) -> list[DiskUse]:
        places = [self._places(tenant) for tenant in tenants]
        paths = {path for volumes, containers in places for path in (*volumes.values(), *chain(*containers.values()))}
        found = await sizes(sorted(paths), inodes=inodes)
        return [
            DiskUse(
                {name: sum(found.get(path, 0) for path in held) for name, held in containers.items()},
                {name: found.get(path, 0) for name, path in volumes.items()},
            )
            for volumes, containers in places
        ]

    def _places(self, tenant: Tenant) -> tuple[dict[str, str], dict[str, set[str]]]:
        """Where the pod's own volumes are on the disk, and what its containers wrote, and their logs; by name."""
        pod, uid = tenant.pod, tenant.pod["metadata"]["uid"]
        named = [volume["name"] for volume in pod["spec"].get("volumes") or () if _is_own(volume)]
        containers: dict[str, set[str]] = {}
        for run in tenant.seen.containers:
            logs = self._layout.log(pod, run.name, run.attempt).parent
            containers.setdefault(run.name, set()).update((self._runtime.written(run.id), str(logs)))
        return {name: str(self._layout.volume(uid, name)) for name in named}, containers


def _is_own(volume: Obj) -> bool:
    """Whether a volume is on the machine's disk, and the pod's alone."""
    if "emptyDir" in volume:
        return (volume["emptyDir"] or {}).get("medium") != "Memory"
    return "csi" in volume


def _lives(tenant: Tenant) -> bool:
    return tenant.status.get("phase") not in ("Succeeded", "Failed") and tenant.seen.rejected is None


def _running(tenant: Tenant) -> Sequence[Container]:
    return [found for found in tenant.seen.containers if found.state is ContainerState.RUNNING]


async def sizes(paths: Sequence[str], *, inodes: bool = False) -> dict[str, int]:
    """Bytes (or files) that directories take on their disk, as du(1) counts them: a process of its own, off our loop.

    What is not there is missing, and so is everything if it cannot be counted in time.
    """
    if not paths:
        return {}
    try:
        async with asyncio.timeout(_COUNT_SECONDS):
            done = await spawn.run(["nice", "du", "-sx", "--inodes" if inodes else "-B1", "--", *paths])
    except TimeoutError:
        return {}
    lines = (line.split("\t", 1) for line in done.stdout.decode(errors="surrogateescape").splitlines())
    return {path: int(count) for count, path in lines}
