"""What a container is made of before it starts: its root as an overlay, its user, its namespaces, its filter of system
calls, all of it written into the config.json that the OCI runtime reads.
"""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from corral.agent.runtime.api import ContainerSpec, RuntimeFailure, SandboxSpec, Security
from corral.agent.runtime.images.machine_images import MachineImages
from corral.agent.runtime.oci import bundle, filters, machine, rootfs, sandbox, seccomp, users
from corral.agent.runtime.oci.cgroups import Cgroups
from corral.agent.runtime.oci.engine import Engine
from corral.agent.runtime.oci.state import ContainerRecord, Layout
from corral.base.clock import Clock


class Preparer:
    """Prepares containers of one machine."""

    def __init__(
        self, layout: Layout, cgroups: Cgroups, host: bundle.Host, images: MachineImages, clock: Clock
    ) -> None:
        self._layout = layout
        self._cgroups = cgroups
        self._host = host
        self._images = images
        self._clock = clock

    async def prepare(
        self, spec: ContainerSpec, pod: SandboxSpec, directory: Path, engine: Engine, processes: str
    ) -> ContainerRecord:
        """Mount the root and write config.json, both in `directory`.

        Args:
            processes: path of the PID namespace to join; empty: one of its own.

        Raises:
            RuntimeFailure: the image or the profile is not there, or the user may not be that one.
            OSError: as the kernel says.
        """
        stored = await self._images.find(spec.image)
        if stored is None:
            raise RuntimeFailure(
                "CreateContainerError",
                f"cannot create container {spec.name}: image {spec.image} is not on this machine",
            )
        image_user = str(stored.image.config.get("User") or "")
        if spec.security.run_as_non_root:
            users.refuse_root(spec.security.user, image_user, spec.name)
        root = await rootfs.mount(stored.layers, directory)
        who = users.resolve(spec.security.user or image_user, spec.security.supplemental_groups, users.reader(root))
        host = self._host
        if spec.security.privileged:
            host = replace(host, devices=machine.devices())
        elif spec.devices:
            host = replace(host, devices=tuple(found for found in machine.devices() if found["path"] in spec.devices))
        around = bundle.Surroundings(
            sandbox=pod,
            root=root,
            namespaces=self._namespaces(pod, processes),
            shm=sandbox.shm(pod, self._layout.sandbox(pod.id)),
            cgroup=f"{self._cgroups.pod(pod.pod_uid)}/{spec.id}",
            image_mounts=stored.mounts,
            **self._filter(spec.security, engine),
        )
        made = bundle.config(spec, stored.image, around, who, host)
        (directory / "config.json").write_text(json.dumps(made))
        return ContainerRecord(
            spec=spec,
            image_id=stored.image.id,
            layers=list(stored.layers),
            stop_signal=_signal(str(stored.image.config.get("StopSignal") or "SIGTERM")),
            cgroup=around.cgroup,
            created=self._clock.now(),
        )

    def _namespaces(self, pod: SandboxSpec, processes: str) -> dict[str, str]:
        """OCI namespace types to paths."""
        names = {"net": "network", "ipc": "ipc", "uts": "uts"}
        directory = self._layout.sandbox(pod.id)
        paths = {names[kind]: path for kind, path in sandbox.namespace_paths(pod, directory).items()}
        return {**paths, "pid": processes} if processes else paths

    def _filter(self, security: Security, engine: Engine) -> dict[str, Any]:
        """The seccomp profile as a section for the OCI runtime, or compiled where the engine takes it so."""
        profile = self._seccomp(security)
        program = filters.compiled(profile) if profile is not None and engine.name == "crun" else None
        if program is not None:
            return {"annotations": {filters.ANNOTATION: program}}
        return {"seccomp": profile}

    def _seccomp(self, security: Security) -> bundle.Config | None:
        if security.privileged or security.seccomp == "Unconfined":
            return None
        path = seccomp.default_path() if security.seccomp == "RuntimeDefault" else Path(security.seccomp)
        if path is None:
            return None
        try:
            return seccomp.load(path, bundle.capabilities(security, self._host.capabilities))
        except (OSError, ValueError, KeyError) as error:
            raise RuntimeFailure("CreateContainerError", f"cannot load seccomp profile {path}: {error}") from error


def _signal(name: str) -> int:
    """A signal's number from an image's StopSignal (`SIGTERM`, `TERM` or `15`)."""
    if name.isdigit():
        return int(name)
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        return signal.SIGTERM
