"""The machine's real containers behind `corral.agent.runtime.api.Runtime`: a shell over small parts.

`sandboxes` pins a pod's namespaces, `containers` runs OCI containers under conmon, `images` finds what they stand on.
All that is known lies on disk, so a new OciRuntime over the same directory adopts what an earlier one left running.
"""

import logging
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from corral.agent.runtime import spawn
from corral.agent.runtime.api import (
    Container,
    ContainerSpec,
    Process,
    Resources,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
    Usage,
)
from corral.agent.runtime.images.machine_images import MachineImages
from corral.agent.runtime.oci import conmon, hung, machine
from corral.agent.runtime.oci import engine as engines
from corral.agent.runtime.oci.cgroups import Cgroups
from corral.agent.runtime.oci.containers import Containers
from corral.agent.runtime.oci.network import Network, NetworkConfig
from corral.agent.runtime.oci.sandboxes import Sandboxes
from corral.agent.runtime.oci.state import Layout, boot_id
from corral.base.clock import Clock

log = logging.getLogger(__name__)


class OciRuntime:
    """Sandboxes and containers below `directory`; `cell` names the control groups and keeps cells apart.

    `boot` tells this boot of the machine from others; the kernel's own if empty.
    """

    def __init__(
        self,
        directory: Path,
        *,
        network: NetworkConfig,
        clock: Clock,
        cell: str,
        engine: engines.Choice = "auto",
        boot: str = "",
    ) -> None:
        self._layout = Layout(directory)
        self._choice = engine
        self._boot = boot or boot_id()
        self._cgroups = Cgroups(f"/corral-{cell}")
        self._network = Network(network, directory / "network")
        self._host = machine.host()
        self._clock = clock
        self._engine: engines.Engine | None = None
        self._containers: Containers | None = None
        self._sandboxes: Sandboxes | None = None
        self.images = MachineImages(self._layout.images, self._used)

    @property
    def version(self) -> str:
        if self._engine is None:
            return "corral+oci://0"
        return f"corral+{self._engine.name}://{self._engine.version}"

    async def open(self) -> None:
        started = time.perf_counter()
        self._layout.make()
        same_boot = self._same_boot()
        self._engine = await engines.find(self._choice, self._layout.oci, self._cgroups.kind)
        self._cgroups.prepare()
        if self._host.lowest_oom_score_adj > -1000:
            log.warning(
                "the agent lacks CAP_SYS_RESOURCE: oom_score_adj below %d is not applied",
                self._host.lowest_oom_score_adj,
            )
        self._containers = Containers(
            self._layout, self._engine, self._cgroups, self._host, self.images, self._clock, self._sandbox
        )
        self._sandboxes = Sandboxes(self._layout, self._network, self._cgroups, self._clock, self._containers)
        await self.images.open()
        self._sandboxes.load()
        await self._containers.load(same_boot=same_boot)
        await self._sandboxes.clear_leftovers()
        self.images.host.remove_unused(self._containers.layers())
        log.info("runtime %s is open after %.0f ms", self.version, (time.perf_counter() - started) * 1000)

    def _same_boot(self) -> bool:
        """Whether the records are of this boot; from now on they are."""
        try:
            before = self._layout.boot.read_text()
        except FileNotFoundError:
            before = self._boot
        self._layout.boot.write_text(self._boot)
        return before == self._boot

    def _used(self) -> tuple[set[str], set[str]]:
        """The images and layers that containers stand on."""
        return self._held.images(), self._held.layers()

    async def close(self) -> None:
        await self.images.close()
        if self._containers is not None:
            await self._containers.close()
            self._layout.leave()

    async def check(self) -> None:
        if self._engine is None:
            raise RuntimeFailure("RuntimeNotReady", "cannot use the runtime before open()")
        for program in (self._engine.path, conmon.PROGRAM):
            done = await spawn.run([program, "--version"])
            if done.code:
                raise RuntimeFailure("RuntimeNotReady", f"{program} does not work: {done.words}")
        # Somebody may have unmounted the control groups, or removed the cell's own.
        self._cgroups.prepare()

    async def recover(self) -> str:
        held = self._held
        before = len(held.running())
        calls = hung.hung_calls(self._engine, hung.HUNG_SECONDS) if self._engine is not None else []
        hung.end(calls)
        self._engine = await engines.find(self._choice, self._layout.oci, self._cgroups.kind)
        await self.check()
        held.watch_again(self._engine)
        runs = len(held.running())
        ended = f", {before - runs} had ended" if before != runs else ""
        return f"{self.version}: {len(calls)} calls hung and were ended; {runs} containers run{ended}"

    def _sandbox(self, sandbox_id: str) -> SandboxSpec | None:
        """The spec of a sandbox that is ready."""
        return self._pods.ready(sandbox_id)

    @property
    def _pods(self) -> Sandboxes:
        if self._sandboxes is None:
            raise RuntimeFailure("RuntimeNotReady", "cannot use the runtime before open()")
        return self._sandboxes

    @property
    def _held(self) -> Containers:
        if self._containers is None:
            raise RuntimeFailure("RuntimeNotReady", "cannot use the runtime before open()")
        return self._containers

    async def create_sandbox(self, spec: SandboxSpec) -> Sandbox:
        return await self._pods.create(spec)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self._pods.remove(sandbox_id)

    async def create_container(self, spec: ContainerSpec) -> Container:
        return await self._held.create(spec)

    async def start_container(self, container_id: str) -> Container:
        return await self._held.start(container_id)

    async def stop_container(self, container_id: str, grace: float) -> None:
        await self._held.stop(container_id, grace)

    async def kill_container(self, container_id: str, signal: int) -> None:
        self._held.kill(container_id, signal)

    async def remove_container(self, container_id: str) -> None:
        await self._held.remove(container_id)

    async def sandboxes(self) -> Sequence[Sandbox]:
        return self._pods.all()

    async def containers(self) -> Sequence[Container]:
        return self._held.all()

    def exits(self) -> AsyncIterator[Container]:
        return self._held.exits()

    async def exec(self, container_id: str, argv: Sequence[str], *, tty: bool = False, stdin: bool = False) -> Process:
        return await self._held.exec(container_id, argv, tty=tty, stdin=stdin)

    async def attach(self, container_id: str, *, stdin: bool = False) -> Process:
        return await self._held.attach(container_id, stdin=stdin)

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        self._held.update(container_id, resources)

    async def usage(self, container_id: str) -> Usage | None:
        return self._held.usage(container_id)

    def network_namespace(self, sandbox_id: str) -> str:
        return self._pods.network_namespace(sandbox_id)

    def control_groups(self) -> list[str]:
        """Directories that hold a group `pod-UID` for each pod, with all of its processes somewhere below."""
        return self._cgroups.directories()

    async def reopen_log(self, container_id: str) -> None:
        self._held.reopen_log(container_id)

    def written(self, container_id: str) -> str:
        return self._held.written(container_id)

    def root(self, container_id: str) -> str:
        return self._held.root(container_id)

    @property
    def pod_network(self) -> NetworkConfig:
        """The pod network as it is now."""
        return self._network.config

    async def assign_subnet(self, subnet: str) -> None:
        """The cell's word on the subnet of this machine's pods; until it is said, new pods wait."""
        await self._network.assign(subnet)

    async def restore_network(self) -> None:
        """Write anew what lets pods out."""
        await self._network.restore()

    async def destroy_network(self) -> None:
        """Take away the cell's bridge, rules and control groups: the cell goes down for good.

        Raises:
            RuntimeFailure: a sandbox is still there.
        """
        if self._pods.all():
            raise RuntimeFailure("NetworkBusy", "cannot remove the pod network: there are sandboxes on it")
        await self._network.destroy()
        self._cgroups.remove(self._cgroups.parent)
