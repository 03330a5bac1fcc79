"""What may be thrown away on this machine: decided purely, done by `Janitor`.

Dead containers beyond the newest of each name, sandboxes of pods that ended long ago, directories and logs of pods that
are gone, and, when the disk is fuller than 85 %, images that nobody uses until it is below 80 %.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from corral.agent.layout import Layout
from corral.agent.machine import disk_used_share, free_bytes
from corral.agent.runtime.api import Container, ContainerState, Image, Runtime, Sandbox
from corral.agent.volumes.manager import remove_tree
from corral.base.clock import Clock
from corral.base.errors import CorralError

logger = logging.getLogger(__name__)

HIGH, LOW = 0.85, 0.80
"""Shares of the disk: images are removed above the first until it is below the second (the kubelet's defaults)."""
ENDED_SANDBOXES = 100
"""How many ended pods keep their sandbox (and their containers' files); the oldest are given up first."""
PERIOD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What is on the machine and what of it is still wanted."""

    sandboxes: Sequence[Sandbox]
    containers: Sequence[Container]
    known: frozenset[str]
    """Uids of pods that have a worker; it cleans up after them."""
    ended: Mapping[str, datetime] = field(default_factory=dict)
    """Uids of known pods in a terminal phase, and when they began."""


@dataclass(frozen=True, slots=True)
class Waste:
    """Ids of what may go."""

    containers: Sequence[Container]
    sandboxes: Sequence[str]


def waste(seen: Seen) -> Waste:
    """Dead containers beyond the newest of each name, and sandboxes that nobody needs."""
    pod_of = {sandbox.id: sandbox.pod_uid for sandbox in seen.sandboxes}
    orphans = [sandbox.id for sandbox in seen.sandboxes if sandbox.pod_uid not in seen.known]
    ended = sorted(
        (sandbox for sandbox in seen.sandboxes if sandbox.pod_uid in seen.ended),
        key=lambda sandbox: seen.ended[sandbox.pod_uid],
    )
    old = [sandbox.id for sandbox in ended[: max(0, len(ended) - ENDED_SANDBOXES)]]
    going = {*orphans, *old}
    dead: list[Container] = []
    newest: set[tuple[str, str]] = set()
    for container in sorted(seen.containers, key=lambda found: -found.attempt):
        if container.state is not ContainerState.EXITED or container.sandbox_id in going:
            continue
        name = (pod_of.get(container.sandbox_id, container.sandbox_id), container.name)
        if name in newest:
            dead.append(container)
        newest.add(name)
    return Waste(dead, [*orphans, *old])


def unused(images: Iterable[Image], used: set[str]) -> list[Image]:
    """Images that no container uses, the largest first; `host` is no image to remove."""
    found = [
        image
        for image in images
        if image.id not in used and not used & set(image.references) and "host" not in (image.id, *image.references)
    ]
    return sorted(found, key=lambda image: -image.size)


class Janitor:
    """Throws away what `waste` and `unused` say, every minute, and at once when asked."""

    def __init__(
        self,
        runtime: Runtime,
        layout: Layout,
        clock: Clock,
        *,
        known: Callable[[], Mapping[str, datetime | None]],
        removed: Callable[[str, set[str]], None],
        pod_logs: Callable[[], set[str]],
    ) -> None:
        self._runtime = runtime
        self._layout = layout
        self._clock = clock
        self._known = known
        self._removed = removed
        self._pod_logs = pod_logs
        self._cleaning = asyncio.Lock()

    async def run(self) -> None:
        """Clean up until cancelled. Must not begin before all pods of the machine are known."""
        while True:
            try:
                await self.clean()
            except (CorralError, OSError) as error:
                logger.warning("cannot clean up, will retry: %s", error)
            await self._clock.sleep(PERIOD_SECONDS)

    async def clean(self) -> None:
        """One round."""
        async with self._cleaning:
            await self._clean()

    async def _clean(self) -> None:
        sandboxes = await self._runtime.sandboxes()
        containers = await self._runtime.containers()
        known = self._known()
        ended = {uid: moment for uid, moment in known.items() if moment is not None}
        found = waste(Seen(sandboxes, containers, frozenset(known), ended))
        for container in found.containers:
            await self._runtime.remove_container(container.id)
            pod = next((box.pod_uid for box in sandboxes if box.id == container.sandbox_id), "")
            self._removed(pod, {container.id})
        for sandbox_id in found.sandboxes:
            logger.info("removing sandbox %s, whose pod is gone or ended long ago", sandbox_id)
            await self._runtime.remove_sandbox(sandbox_id)
        await self._clean_directories()
        if await asyncio.to_thread(disk_used_share, self._layout.directory) > HIGH:
            await self._clean_images(containers)

    async def prune(self) -> str:
        """Throw away all that nobody uses, however much room there is: dead containers, images, rotated logs."""
        before, images = free_bytes(self._layout.directory), len(await self._runtime.images.list())
        await self.reclaim()
        images -= len(await self._runtime.images.list())
        logs = await asyncio.to_thread(_remove_rotated, self._layout.logs)
        freed = max(0, free_bytes(self._layout.directory) - before)
        return f"{images} images and {logs} rotated logs removed, {freed / 1e6:.1f} MB freed"

    async def _clean_directories(self) -> None:
        # What is there is read before what is wanted: a pod that begins meanwhile is not on the first list.
        pods, logs = await asyncio.to_thread(lambda: (_entries(self._layout.pods), _entries(self._layout.logs)))
        known, kept = self._known(), self._pod_logs()
        for directory in [self._layout.pods / name for name in pods if name not in known]:
            await asyncio.to_thread(remove_tree, directory)
        for directory in [self._layout.logs / name for name in logs if name not in kept]:
            await asyncio.to_thread(shutil.rmtree, directory)

    async def reclaim(self) -> None:
        """The disk is too full: besides all that `clean` removes, every image that nobody uses."""
        await self.clean()
        await self._clean_images(await self._runtime.containers(), until=0.0)

    async def _clean_images(self, containers: Sequence[Container], until: float = LOW) -> None:
        used = {container.image_id for container in containers}
        for image in unused(await self._runtime.images.list(), used):
            if disk_used_share(self._layout.directory) < until:
                return
            logger.info("removing image %s: the disk is too full", image.id)
            await self._runtime.images.remove(image.id)


def _remove_rotated(logs: Path) -> int:
    """Remove rotated logs, compressed or not; what is written to now stays. Returns how many."""
    found = list(logs.glob("*/*/*.log.*"))
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def _entries(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir()) if directory.is_dir() else []
