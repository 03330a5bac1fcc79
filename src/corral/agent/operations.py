"""What a worker does to the machine, one function an instruction; each returns what came of it or raises."""

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from corral.agent.actions import Actions, Target
from corral.agent.env import ConfigError, Surroundings, environment, references
from corral.agent.images import ImageKeeper
from corral.agent.layout import Layout, container_id, sandbox_id
from corral.agent.logs import tail_text
from corral.agent.machine import Machine
from corral.agent.objects import ObjectCache, TokenCache
from corral.agent.podstate.model import Note, StartContainer
from corral.agent.runtime.api import Container, ContainerSpec, Runtime, Sandbox
from corral.agent.spec_builder import Dns, Place, container_spec, etc_files, sandbox_spec
from corral.agent.volumes.api import VolumeError
from corral.agent.volumes.manager import VolumeManager, container_mounts
from corral.base.clock import Clock
from corral.base.errors import CorralError
from corral.kinds.resources import CONFIG_MAPS, SECRETS
from corral.kinds.types import Obj, Resource

_MESSAGE_BYTES = 4096
_FALLBACK_LINES, _FALLBACK_BYTES = 80, 2048
"""Kubernetes' limits of a termination message, from the file and from the log."""


@dataclass(frozen=True, slots=True)
class Services:
    """What all workers of a machine share."""

    runtime: Runtime
    clock: Clock
    layout: Layout
    machine: Machine
    dns: Dns
    volumes: VolumeManager
    objects: ObjectCache
    tokens: TokenCache
    images: ImageKeeper
    actions: Actions
    service: Callable[[], tuple[str, int]] = lambda: ("", 0)
    """Host and port at which pods that start now find the API."""
    pids_limit: int = 0


class Operations:
    """Instructions carried out."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def around(self, pod: Obj, sandbox: Sandbox | None) -> Surroundings:
        """What the pod's fields mean here, without ConfigMaps and Secrets."""
        services = self._services
        host, port = services.service()
        return Surroundings(
            pod_addresses=self.addresses(pod, sandbox),
            host_addresses=tuple(services.machine.addresses),
            node_name=services.machine.name,
            allocatable=services.machine.allocatable,
            service_host=host,
            service_port=port,
        )

    def addresses(self, pod: Obj, sandbox: Sandbox | None) -> tuple[str, ...]:
        """The pod's IP addresses."""
        if sandbox is None:
            return ()
        return tuple(self._services.machine.addresses if pod["spec"].get("hostNetwork") else sandbox.addresses)

    async def create_sandbox(self, pod: Obj, attempt: int) -> Sandbox:
        """Make the pod's namespaces."""
        services = self._services
        spec = sandbox_spec(
            pod,
            sandbox_id(pod["metadata"]["uid"], attempt),
            machine_name=services.machine.name,
            pids_limit=services.pids_limit,
        )
        return await services.runtime.create_sandbox(spec)

    async def look_at(self, sandbox: Sandbox) -> Sandbox:
        """The sandbox as it is now: one that is lost is not ready."""
        everyone = await self._services.runtime.sandboxes()
        return next((found for found in everyone if found.id == sandbox.id), replace(sandbox, ready=False))

    def _write_etc(self, pod: Obj, sandbox: Sandbox) -> None:
        """Write /etc/hosts, /etc/hostname and /etc/resolv.conf as they are in this sandbox.

        Before every container, because an agent may have been killed after making the sandbox, and a sandbox that
        replaces another has another address.
        """
        services = self._services
        etc = services.layout.etc(pod["metadata"]["uid"])
        etc.mkdir(parents=True, exist_ok=True, mode=0o755)
        files = etc_files(
            pod, self.addresses(pod, sandbox), services.dns, services.machine.hosts_file(), services.machine.name
        )
        for name, text in files.items():
            path, fresh = etc / name, etc / f".{name}"
            if not path.exists() or path.read_text() != text:
                fresh.write_text(text)
                fresh.replace(path)

    async def container_spec(
        self, pod: Obj, container: Obj, start: StartContainer, sandbox: Sandbox, volumes: Mapping[str, Path], pids: str
    ) -> ContainerSpec:
        """Everything that a container needs, looked up; its log and message files are made.

        Raises:
            ConfigError: something that it refers to is missing.
        """
        services = self._services
        env = await self._environment(pod, container, sandbox)
        try:
            mounts = container_mounts(pod, container, volumes, dict(env), services.layout)
        except VolumeError as error:
            raise ConfigError(error.message, error.remedy) from error
        uid = pod["metadata"]["uid"]
        place = Place(
            id=container_id(uid, start.name, start.attempt, _attempt_of(sandbox)),
            sandbox_id=sandbox.id,
            attempt=start.attempt,
            image=start.image_id,
            layout=services.layout,
            mounts=mounts,
            machine_memory=services.machine.capacity.get("memory", 0),
            target_pid_namespace=pids,
        )
        spec = container_spec(pod, container, env, place)
        self._write_etc(pod, sandbox)
        self._make_files(pod, container, start.attempt, Path(spec.log_path))
        return spec

    async def _environment(self, pod: Obj, container: Obj, sandbox: Sandbox) -> list[tuple[str, str]]:
        around = self.around(pod, sandbox)
        config_maps, secrets = references(pod, container)
        if config_maps or secrets:
            around = replace(
                around,
                config_maps={name: await self._object(pod, CONFIG_MAPS, name) for name in config_maps},
                secrets={name: await self._object(pod, SECRETS, name) for name in secrets},
            )
        return environment(pod, container, around)

    async def _object(self, pod: Obj, which: Resource, name: str) -> Obj | None:
        metadata = pod["metadata"]
        try:
            return await self._services.objects.get(which, metadata.get("namespace", ""), name, metadata["uid"])
        except (CorralError, OSError) as error:
            raise ConfigError(f"cannot read {which.plural} {name}: {error}") from error

    def _make_files(self, pod: Obj, container: Obj, attempt: int, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        message = self._services.layout.termination_log(pod["metadata"]["uid"], container["name"], attempt)
        message.parent.mkdir(parents=True, exist_ok=True)
        message.touch()
        # Whatever user the container runs as may write its last words.
        message.chmod(0o666)

    async def teardown(self, pod: Obj) -> None:
        """Unmount and delete everything of the pod on this machine, its logs too.

        Raises:
            MountError: something stays mounted; the pod's directory is kept then.
        """
        await self._services.volumes.teardown(pod["metadata"]["uid"])
        await asyncio.to_thread(shutil.rmtree, self._services.layout.pod_logs(pod), ignore_errors=True)

    def last_words(self, pod: Obj, container: Obj, ended: Container) -> Note:
        """The termination message of a container that has ended."""
        services = self._services
        path = services.layout.termination_log(pod["metadata"]["uid"], container["name"], ended.attempt)
        text = _head_of(path)
        fallback = container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        if not text and fallback and ended.exit_code != 0:
            log = services.layout.log(pod, container["name"], ended.attempt)
            text = tail_text(log, lines=_FALLBACK_LINES, size=_FALLBACK_BYTES)
        return Note(message=text)

    def target(self, pod: Obj, container: Obj, container_id: str, sandbox: Sandbox | None) -> Target:
        """What probes and hooks talk to."""
        addresses = self.addresses(pod, sandbox)
        return Target(container_id, container, addresses[0] if addresses else "127.0.0.1")

    async def find(self, container_id: str) -> Container | None:
        """A container as the runtime knows it now."""
        everyone = await self._services.runtime.containers()
        return next((container for container in everyone if container.id == container_id), None)


def _attempt_of(sandbox: Sandbox) -> int:
    text = sandbox.id.rpartition("-")[2]
    return int(text) if text.isdigit() else 0


def next_sandbox_attempt(sandbox: Sandbox) -> int:
    """The number of the sandbox after this one."""
    return _attempt_of(sandbox) + 1


def _head_of(path: Path) -> str:
    try:
        # The container owns the file: it may have put a link or a pipe there.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _MESSAGE_BYTES).decode(errors="replace")
    finally:
        os.close(descriptor)
