"""The agent of one machine: it registers its Node, watches its pods, and gives each one a worker.

Order at the start: what the runtime holds is read first (containers have run on while there was no agent), then the
Node is registered, then pods are watched; each pod's worker begins with the sandbox and containers that were found for
it. What belongs to no pod is cleared only after the first whole list of pods. Order at the end is the reverse, and
containers go on.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from corral.agent import machine as facts
from corral.agent.actions import Actions
from corral.agent.admission import admit
from corral.agent.eviction.evictor import Evictor
from corral.agent.eviction.plan import refusal
from corral.agent.fence import Fence
from corral.agent.gc import Janitor
from corral.agent.guard import Guard
from corral.agent.images import ImageKeeper
from corral.agent.images_door import image_routes
from corral.agent.layout import Layout
from corral.agent.lease import Hooks, LeaseKeeper
from corral.agent.node import NodeSpec, announcement, labels_of
from corral.agent.objects import ObjectCache, TokenCache
from corral.agent.operations import Services
from corral.agent.pod_files import PodFiles
from corral.agent.podnetwork import NoPodNetwork, PodNetwork, finding
from corral.agent.problems.api import Finding
from corral.agent.problems.pressure import PRESSURES, PressureSource
from corral.agent.problems.sources import Sources, Surroundings, machine_sources
from corral.agent.problems.watch import ProblemWatch
from corral.agent.registration import Registration
from corral.agent.repairs import Perform, RepairHand, reboot
from corral.agent.rotation import LogRotator
from corral.agent.runtime.api import Container, ContainerState, Runtime, Sandbox
from corral.agent.server import AgentServer
from corral.agent.spec_builder import Dns
from corral.agent.stats import Stats
from corral.agent.stream_routes import routes
from corral.agent.volumes.api import SourceFetcher
from corral.agent.volumes.manager import VolumeManager
from corral.agent.volumes.reclaimer import VolumeReclaimer
from corral.agent.worker import PodWorker
from corral.base.backoff import Backoff
from corral.base.clock import Clock, parse_rfc3339
from corral.base.errors import CorralError
from corral.base.tasks import TaskStack, was_stopped
from corral.client.api import ApiRequest
from corral.client.client import Client
from corral.client.informer import Event, Informer
from corral.kinds.health import yields
from corral.kinds.podspec import is_terminal
from corral.kinds.repairs import Remedy
from corral.kinds.resources import PODS
from corral.kinds.storage import claims_of
from corral.kinds.types import Key, Obj
from corral.machinery.events import EventRecorder

logger = logging.getLogger(__name__)

_CRASH_PAUSE_SECONDS = 10.0
_RETRY = Backoff(initial=0.2, maximum=3.0)
"""What is bound to this machine waits for its agent to hear of it."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What a cell decides about one machine."""

    node_name: str
    directory: Path
    address: str
    """The machine's address for others (InternalIP)."""
    port: int = 10250
    """Where the server listens; 0 is any free port."""
    listen: str = "0.0.0.0"
    capacity: Mapping[str, int] = field(default_factory=dict)
    """Overrides what the machine has: cpu in thousandths, everything else in whole units."""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Obj] = ()
    service: Callable[[], tuple[str, int]] = lambda: ("", 0)
    """Host and port at which pods that start now find the API."""
    cluster_dns: Sequence[str] = ()
    pids_limit: int = 0
    fences: bool = False
    """Whether it stops by itself what the servers may have started elsewhere."""
    boot: str = ""
    """Tells this boot of the machine from others; the kernel's own if empty."""
    fence_file: Path | None = None
    """Where it says until when all is well; None: in its directory."""
    groups: Sequence[str] = ()
    """Directories of control groups that hold the pods' own, for whoever kills them when the agent is dead."""
    reboot: Callable[[], Sequence[str]] = tuple
    """The command that reboots this machine, if its owner lets repairs do so."""
    restart: Callable[[], None] | None = None
    """Ends this agent, and starts another one in its place; None where it is a part of something larger."""


class Agent:
    """One machine's side of the cell.

    Args:
        client: the API as `system:node:NAME`.
        server_context: TLS of the agent's own server, verifying client certificates against the cell's CA.
        sources: what may be wrong with the machine.
        network: keeps the way to other machines' pods; None: the runtime's pods have one that is not our business.
    """

    volume_manager: type[VolumeManager] = VolumeManager

    def __init__(
        self,
        client: Client,
        runtime: Runtime,
        config: AgentConfig,
        *,
        clock: Clock,
        rng: random.Random,
        server_context: ssl.SSLContext | None,
        fetch_source: SourceFetcher,
        sources: Sources = machine_sources,
        network: PodNetwork | None = None,
    ) -> None:
        self.config = config
        self.runtime = runtime
        self.port = 0
        """Where the server listens, once started."""
        self.layout = Layout(config.directory)
        self._client = client
        self._clock = clock
        self._server_context = server_context
        self._machine = facts.read(
            config.node_name, (config.address,), config.directory, config.capacity, boot=config.boot
        )
        self._events = EventRecorder(client, "kubelet", clock, host=config.node_name)
        self._objects = ObjectCache(client, clock, self._objects_changed)
        self._tokens = TokenCache(client, clock)
        self._actions = Actions(runtime, clock)
        self._services = self._build_services(fetch_source)
        mine = f"spec.nodeName={config.node_name}"
        self._informer = Informer(client, PODS, field_selector=mine, clock=clock, rng=rng, retry=_RETRY)
        looked_at = sources(self._around())
        self._problems = ProblemWatch(looked_at, clock, self._found_out)
        self._pressure = next((source for source in looked_at if isinstance(source, PressureSource)), None)
        self._network = network or NoPodNetwork()
        self._network.on_change(self._network_changed)
        self._network_said: Finding | None = None
        self._registration = Registration(client, runtime, self._machine, clock, self._findings, self._network)
        self._fence = Fence()
        self._guard = Guard(config.fence_file or config.directory / "fence.json", config.groups, self._spared)
        told = (self._registration.missed, self._fence_shut, self._reopen_fence)
        hooks = Hooks(*told, self._guard.watch, self._guard.excuse)
        self._lease = LeaseKeeper(client, config.node_name, clock, self._fence, hooks, promises=config.fences)
        self._workers: dict[str, PodWorker] = {}
        self._by_key: dict[Key, PodWorker] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._found: dict[str, tuple[Sandbox, list[Container]]] = {}
        self._stack = contextlib.AsyncExitStack()
        self.files = PodFiles(self.layout, self._informer, self._workers)
        self._server = AgentServer(
            self.files,
            runtime,
            Stats(runtime, self._machine, config.directory, clock),
            clock,
            [*routes(runtime, self.worker), *image_routes(runtime.images, config.directory)],
        )

    def _build_services(self, fetch_source: SourceFetcher) -> Services:
        config = self.config
        resolver = facts.resolver()
        return Services(
            runtime=self.runtime,
            clock=self._clock,
            layout=self.layout,
            machine=self._machine,
            dns=Dns(resolver.machine_servers, resolver.machine_searches, tuple(config.cluster_dns)),
            volumes=self.volume_manager(self.layout, self._objects, self._tokens, fetch_source),
            objects=self._objects,
            tokens=self._tokens,
            images=ImageKeeper(self.runtime.images, self._objects.get, self._clock),
            actions=self._actions,
            service=config.service,
            pids_limit=config.pids_limit,
        )

    async def start(self) -> None:
        """Return when the Node is registered, the server listens and every pod of the machine has its worker."""
        async with contextlib.AsyncExitStack() as stack:
            self.layout.pods.mkdir(parents=True, exist_ok=True, mode=0o750)
            self.layout.logs.mkdir(parents=True, exist_ok=True, mode=0o750)
            self.layout.local_volumes.mkdir(parents=True, exist_ok=True, mode=0o750)
            await self.runtime.open()
            stack.push_async_callback(self.runtime.close)
            stack.push_async_callback(self._actions.close)
            stack.push_async_callback(self._objects.close)
            # Ends from here on are told; those before are in what is read next.
            exits = self.runtime.exits()
            await self._read_runtime()
            tasks = await stack.enter_async_context(TaskStack())
            stack.push_async_callback(self._end_lives)
            self.port = await self._server.start(self._server_context, self.config.listen, self.config.port)
            stack.push_async_callback(self._server.stop)
            tasks.start(self._hear_exits(exits), "container exits")
            tasks.start(self._events.run(), "agent events")
            tasks.start(self._network.run(), "pod network")
            stack.push_async_callback(self._problems.close)
            await self._problems.start()
            spec = self._node_spec()
            await self._registration.register(spec, self._lease.unheard)
            # Whatever is listed from here on is listed after a renewal: it is not what the server has given up.
            await self._lease.first(self._registration.node["metadata"]["uid"])
            tasks.start(self._lease.run(), "node lease").add_done_callback(self._without_lease)
            tasks.start(self._lease.watch_fence(), "fence").add_done_callback(self._without_lease)
            tasks.start(self._registration.keep_status(spec), "node status")
            self._informer.on_event(self._pod_event)
            self._informer.revision = self._lease.revision
            tasks.start(self._informer.run(), "pods of this machine")
            await self._informer.synced.wait()
            janitor = self._janitor()
            tasks.start(janitor.run(), "garbage collection")
            if self._pressure is not None:
                tasks.start(self._evictor(self._pressure, janitor).run(), "eviction")
            tasks.start(self._repair_hand(janitor).run(), "repairs")
            tasks.start(self._reclaimer().run(), "volumes that are deleted")
            tasks.start(LogRotator(self.runtime, self._clock, self._running_logs).run(), "log rotation")
            self._stack = stack.pop_all()

    def _without_lease(self, task: asyncio.Task[None]) -> None:
        """Nobody counts on a machine that does not keep its lease any more: another agent may do better."""
        if not was_stopped(task) and self.config.restart is not None:
            self.config.restart()

    async def stop(self) -> None:
        """Let go of everything; containers go on."""
        await self._stack.aclose()

    def worker(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of a pod."""
        return self._by_key.get(Key(namespace, name))

    def _node_spec(self) -> NodeSpec:
        volumes = str(self.layout.local_volumes.absolute())
        return NodeSpec(self.config.labels, self.config.taints, self.port, self.runtime.version, volumes)

    def _reclaimer(self) -> VolumeReclaimer:
        def in_use() -> set[Key]:
            pods = (worker.pod for worker in self._workers.values())
            return {Key(pod["metadata"].get("namespace", ""), name) for pod in pods for name, _ in claims_of(pod)}

        return VolumeReclaimer(self._client, self.config.node_name, self.layout.local_volumes, self._clock, in_use)

    def _repair_hand(self, janitor: Janitor) -> RepairHand:
        async def restart() -> str:
            if self.config.restart is None:
                raise CorralError("this agent is a part of the server's process and cannot be restarted alone")
            self.config.restart()
            return await asyncio.Future()

        remedies: dict[Remedy, Perform] = {
            "RestartRuntime": self.runtime.recover,
            "Prune": janitor.prune,
            "RestartAgent": restart,
            "Reboot": lambda: reboot(self.config.reboot()),
        }
        boot_id = self._machine.info.get("bootID", "")
        return RepairHand(self._client, self.config.node_name, self._clock, remedies, boot_id)

    def _janitor(self) -> Janitor:
        return Janitor(
            self.runtime,
            self.layout,
            self._clock,
            known=self._known,
            removed=self._containers_removed,
            pod_logs=lambda: {self.layout.pod_logs(pod).name for pod in self._all_pods()},
        )

    # What the runtime holds.

    async def _read_runtime(self) -> None:
        sandboxes = await self.runtime.sandboxes()
        containers = await self.runtime.containers()
        for sandbox in sorted(sandboxes, key=lambda found: found.created):
            mine = [container for container in containers if container.sandbox_id == sandbox.id]
            older = self._found.get(sandbox.pod_uid)
            if older is not None:
                # Two sandboxes of one pod: the older one was being replaced when the agent ended.
                await self.runtime.remove_sandbox(older[0].id)
            self._found[sandbox.pod_uid] = (sandbox, mine)

    async def _hear_exits(self, exits: AsyncIterator[Container]) -> None:
        async for container in exits:
            uid = container.sandbox_id.rpartition("-")[0]
            worker = self._workers.get(uid)
            if worker is not None:
                worker.ended(container)
            elif uid in self._found:
                sandbox, mine = self._found[uid]
                self._found[uid] = (sandbox, [found for found in mine if found.id != container.id] + [container])

    # What is wrong with the machine.

    def _around(self) -> Surroundings:
        config = self.config
        memory = self._machine.allocatable.get("memory", 0)
        return Surroundings(config.directory, memory, config.groups, self.runtime, self._date, self._clock, self._pids)

    def _pids(self) -> list[int]:
        runs = (run for worker in self._workers.values() for run in worker.seen.containers)
        return [run.pid for run in runs if run.state is ContainerState.RUNNING and run.pid]

    def _evictor(self, pressure: PressureSource, janitor: Janitor) -> Evictor:
        return Evictor(
            self.runtime,
            self.layout,
            self._clock,
            finding=self._problems.finding,
            read=pressure.read,
            tenants=lambda: list(self._workers.values()),
            reclaim=janitor.reclaim,
            tell=lambda reason, message: self._events.record(self._registration.node, "Warning", reason, message),
        )

    async def _date(self) -> str:
        return (await self._client.transport.call(ApiRequest("GET", "/version"))).date

    def _findings(self) -> list[Finding]:
        of_network = finding(self._network)
        return [*self._problems.findings, *([of_network] if of_network is not None else [])]

    def _network_changed(self) -> None:
        before, self._network_said = self._network_said, finding(self._network)
        if self._network_said is not None:
            self._found_out(before, self._network_said)

    def _found_out(self, before: Finding | None, now: Finding) -> None:
        self._registration.changed()
        told = announcement(before, now)
        if told is not None:
            level = logging.WARNING if now.trouble else logging.INFO
            logger.log(level, "node %s: %s: %s", self.config.node_name, told[1], told[2])
            if self._registration.node:
                self._events.record(self._registration.node, *told)

    # What the API says.

    def _pod_event(self, event: Event) -> None:
        if event.new is None:
            worker = self._workers.get(event.obj["metadata"]["uid"])
            if worker is not None:
                worker.gone(event.obj)
            return
        self._pod(event.new)

    def _pod(self, pod: Obj) -> None:
        uid = pod["metadata"]["uid"]
        worker = self._workers.get(uid)
        if worker is not None:
            worker.update(pod)
        elif uid in self._found or not is_terminal(pod) or pod["metadata"].get("deletionTimestamp"):
            self._begin(pod)

    def _begin(self, pod: Obj) -> None:
        uid = pod["metadata"]["uid"]
        sandbox, containers = self._found.pop(uid, (None, []))
        worker = PodWorker(pod, self._services, self._client, self._events, sandbox=sandbox, containers=containers)
        known = sandbox is not None or (pod.get("status") or {}).get("startTime")
        if not known and not pod["metadata"].get("deletionTimestamp"):
            others = [other.pod for other in self._workers.values() if not is_terminal({"status": other.status})]
            labels = labels_of(self._machine, self.config.labels)
            pressures = [found.type for found in self._problems.findings if found.type in PRESSURES and found.trouble]
            refused = refusal(pod, pressures) or admit(
                pod, others, {**labels, **self._node_labels()}, self._machine.allocatable
            )
            if refused is not None:
                worker.reject(refused.reason, refused.message)
        worker.fence(self._fence.check(self._clock.monotonic()) and yields(pod))
        self._workers[uid] = self._by_key[worker.key] = worker
        self._lives[uid] = asyncio.create_task(self._live(worker), name=f"pod {worker.key}")

    def _node_labels(self) -> Mapping[str, str]:
        return self._registration.node.get("metadata", {}).get("labels") or {}

    async def _live(self, worker: PodWorker) -> None:
        """A worker's whole life. One that fails is replaced: its pod must not be lost by a defect."""
        try:
            await worker.run()
        except Exception:
            logger.exception("the worker of pod %s failed and is replaced", worker.key)
            await self._clock.sleep(_CRASH_PAUSE_SECONDS)
            await self._replace(worker)
            return
        self._drop(worker)

    def _drop(self, worker: PodWorker) -> None:
        self._objects.release(worker.uid)
        self._tokens.release(worker.uid)
        self._workers.pop(worker.uid, None)
        self._lives.pop(worker.uid, None)
        if self._by_key.get(worker.key) is worker:
            del self._by_key[worker.key]

    async def _replace(self, worker: PodWorker) -> None:
        sandboxes = [box for box in await self.runtime.sandboxes() if box.pod_uid == worker.uid]
        containers = await self.runtime.containers()
        self._drop(worker)
        if sandboxes:
            sandbox = max(sandboxes, key=lambda box: box.created)
            self._found[worker.uid] = (sandbox, [run for run in containers if run.sandbox_id == sandbox.id])
        newest = self._informer.get(worker.key)
        if newest is not None and newest["metadata"]["uid"] == worker.uid:
            self._begin(newest)

    async def _end_lives(self) -> None:
        lives = list(self._lives.values())
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    # What the server may have started elsewhere.

    def _spared(self) -> list[str] | None:
        if not self._informer.synced.is_set():
            return None
        return [uid for uid, worker in self._workers.items() if not yields(worker.pod)]

    def _fence_shut(self) -> None:
        for worker in self._workers.values():
            worker.fence(yields(worker.pod))

    async def _reopen_fence(self) -> None:
        """Let go on what the server still wants here; the rest is taken out of the API, and ends when we hear of it."""
        # Of a server that has seen the renewal, whichever it is.
        seen = str(self._lease.revision)
        mine = f"spec.nodeName={self.config.node_name}"
        listed = await self._client.list(PODS, field_selector=mine, resource_version=seen)
        if not self._fence.open(self._clock.monotonic()):
            return
        wanted = {pod["metadata"]["uid"] for pod in listed.get("items") or ()}
        revision = int(listed["metadata"]["resourceVersion"])
        for uid, worker in self._workers.items():
            # The watch may have shown a pod that is younger than the list.
            if uid in wanted or int(worker.pod["metadata"].get("resourceVersion") or 0) > revision:
                worker.fence(False)

    # What others ask.

    def _objects_changed(self, pod_uid: str) -> None:
        worker = self._workers.get(pod_uid)
        if worker is not None:
            worker.objects_changed()

    def _all_pods(self) -> list[Obj]:
        listed = list(self._informer.items())
        uids = {pod["metadata"]["uid"] for pod in listed}
        return listed + [worker.pod for uid, worker in self._workers.items() if uid not in uids]

    def _known(self) -> Mapping[str, datetime | None]:
        """Uids of all pods here, and for ended ones when they began."""
        known: dict[str, datetime | None] = {}
        for pod in self._all_pods():
            started = (pod.get("status") or {}).get("startTime")
            ended = is_terminal(pod) and started and not pod["metadata"].get("deletionTimestamp")
            known[pod["metadata"]["uid"]] = parse_rfc3339(str(started)) if ended else None
        return known

    def _containers_removed(self, pod_uid: str, container_ids: set[str]) -> None:
        worker = self._workers.get(pod_uid)
        if worker is not None:
            worker.forget(container_ids)

    def _running_logs(self) -> list[tuple[str, Path]]:
        return [
            (container.id, self.layout.log(worker.pod, container.name, container.attempt))
            for worker in self._workers.values()
            for container in worker.seen.containers
            if container.state is ContainerState.RUNNING
        ]
