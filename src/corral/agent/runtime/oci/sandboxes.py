"""All sandboxes of this machine: their records, namespaces, addresses and pod groups."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence

from corral.agent.runtime import trees
from corral.agent.runtime.api import PortMapping, RuntimeFailure, Sandbox, SandboxSpec
from corral.agent.runtime.oci import sandbox as namespaces
from corral.agent.runtime.oci.cgroups import Cgroups, Limits
from corral.agent.runtime.oci.containers import Containers
from corral.agent.runtime.oci.network import Network
from corral.agent.runtime.oci.state import Layout, SandboxRecord, load, save
from corral.base.clock import Clock

log = logging.getLogger(__name__)

_RECORD = "sandbox.json"
_GROUP_DELAYS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between attempts to remove a control group."""


class Sandboxes:
    """Made and removed one at a time for each id; a record says at last that it is complete, or it is half-made."""

    def __init__(
        self, layout: Layout, network: Network, cgroups: Cgroups, clock: Clock, containers: Containers
    ) -> None:
        self._layout = layout
        self._network = network
        self._cgroups = cgroups
        self._clock = clock
        self._containers = containers
        self._records: dict[str, SandboxRecord] = {}
        self._ready: dict[str, bool] = {}
        self._half_made: list[tuple[str, SandboxSpec | None]] = []
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def load(self) -> None:
        """Read what is on disk and look whether it still lives."""
        for directory in self._layout.sandboxes.iterdir():
            record = load(directory / _RECORD, SandboxRecord)
            if record is None or not record.complete:
                self._half_made.append((directory.name, record.spec if record is not None else None))
                continue
            self._records[record.spec.id] = record
            self._ready[record.spec.id] = namespaces.present(record.spec, directory)

    async def clear_leftovers(self) -> None:
        """Take away what an earlier agent began and did not finish."""
        for sandbox_id, spec in self._half_made:
            log.info("removing half-made sandbox %s", sandbox_id)
            if spec is not None:
                await self._remove(spec)
            else:
                await self._disconnect(sandbox_id, ())
                namespaces.destroy(self._layout.sandbox(sandbox_id))
        self._half_made.clear()
        self._network.keep_leases(self._records)
        known = {record.spec.pod_uid for record in self._records.values()}
        for group in self._cgroups.pods() - {self._cgroups.pod(uid) for uid in known}:
            log.info("removing control group %s, whose pod is gone", group)
            self._cgroups.kill(group)
            self._cgroups.remove(group)

    def all(self) -> list[Sandbox]:
        return [self._view(record) for record in self._records.values()]

    def _view(self, record: SandboxRecord) -> Sandbox:
        spec = record.spec
        return Sandbox(
            id=spec.id,
            pod_uid=spec.pod_uid,
            namespace=spec.namespace,
            name=spec.name,
            ready=self._is_ready(spec.id),
            addresses=tuple(record.addresses),
            created=record.created,
        )

    def ready(self, sandbox_id: str) -> SandboxSpec | None:
        """The spec of a sandbox whose namespaces are there."""
        record = self._records.get(sandbox_id)
        return record.spec if record is not None and self._is_ready(sandbox_id) else None

    def _is_ready(self, sandbox_id: str) -> bool:
        return self._ready[sandbox_id] and not self._containers.lost_process_namespace(sandbox_id)

    def network_namespace(self, sandbox_id: str) -> str:
        record = self._records.get(sandbox_id)
        if record is None:
            raise RuntimeFailure("SandboxNotFound", f"cannot find sandbox {sandbox_id}")
        return namespaces.namespace_paths(record.spec, self._layout.sandbox(sandbox_id)).get("net", "")

    async def create(self, spec: SandboxSpec) -> Sandbox:
        async with self._locks[spec.id]:
            if spec.id not in self._records:
                try:
                    await self._create(spec)
                except OSError as error:
                    await self._undo(spec)
                    raise RuntimeFailure(
                        "CreatePodSandboxError", f"cannot make the namespaces of pod {spec.name}: {error}"
                    ) from error
                except BaseException:
                    await self._undo(spec)
                    raise
            return self._view(self._records[spec.id])

    async def _create(self, spec: SandboxSpec) -> None:
        directory = self._layout.sandbox(spec.id)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        record = SandboxRecord(spec, self._clock.now())
        save(directory / _RECORD, record)
        limits = Limits(spec.cpu_weight, spec.cpu_quota, spec.memory_limit, spec.pids_limit)
        self._cgroups.create_pod(spec.pod_uid, limits)
        await namespaces.create(spec, directory)
        path = namespaces.namespace_paths(spec, directory).get("net", "")
        if path:
            record.addresses = await self._network.add(spec.id, path, spec.ports)
        self._records[spec.id] = record
        self._ready[spec.id] = True
        if spec.share_process_namespace and not spec.host_pid:
            await self._containers.hold_process_namespace(spec)
        record.complete = True
        save(directory / _RECORD, record)

    async def _undo(self, spec: SandboxSpec) -> None:
        """Take back a creation that failed; a failure of this is said, and does not hide the first."""
        try:
            await self._remove(spec)
        except Exception:
            log.exception("cannot clear half-made sandbox %s", spec.id)

    async def remove(self, sandbox_id: str) -> None:
        async with self._locks[sandbox_id]:
            record = self._records.get(sandbox_id)
            if record is not None:
                await self._remove(record.spec)
        self._locks.pop(sandbox_id, None)

    async def _remove(self, spec: SandboxSpec) -> None:
        self._ready[spec.id] = False
        await self._containers.remove_all(spec.id)
        if not spec.host_network:
            await self._disconnect(spec.id, spec.ports)
        directory = self._layout.sandbox(spec.id)
        with trees.unless_lost(directory):
            (directory / _RECORD).unlink(missing_ok=True)
        namespaces.destroy(directory)
        others = any(r.spec.pod_uid == spec.pod_uid for r in self._records.values() if r.spec.id != spec.id)
        if not others:
            await self._remove_group(self._cgroups.pod(spec.pod_uid))
        self._records.pop(spec.id, None)
        self._ready.pop(spec.id, None)

    async def _remove_group(self, group: str) -> None:
        """Remove a pod's control group; what was killed in it takes a moment to die."""
        for delay in _GROUP_DELAYS:
            if self._cgroups.remove(group):
                return
            self._cgroups.kill(group)
            await self._clock.sleep(delay)
        log.error("cannot remove control group %s: processes in it do not die", group)

    async def _disconnect(self, sandbox_id: str, ports: Sequence[PortMapping]) -> None:
        pinned = self._layout.sandbox(sandbox_id) / "ns" / "net"
        await self._network.remove(sandbox_id, str(pinned) if namespaces.pinned(pinned) else "", ports)
