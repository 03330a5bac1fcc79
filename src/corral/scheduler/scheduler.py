"""The live loop: informers keep the snapshot and the queue fresh, `assign` decides, the binder writes.

A pod that arrives while nothing else happens is decided in the next turn of the event loop; many at once are decided in
batches, between which the loop gets its turn. What was decided is assumed in the snapshot at once, and taken back if
the binding fails. A refused pod is looked at again as soon as a change lets its class fit somewhere (room became free,
or a pod that it seeks was placed), after its back-off when machines changed otherwise (its reasons may be other ones
now), and after five minutes in any case. One for which others must go is nominated: it keeps the room that they leave.
Members of a gang are looked at together, as soon as there are enough of them.
"""

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping

from corral.base.clock import Clock
from corral.client.client import Client
from corral.client.informer import Event
from corral.kinds.podgroups import GangKey, counts, gang_of, key_of_group, minimum_of
from corral.kinds.podspec import is_terminal, priority
from corral.kinds.resources import (
    COSCHEDULING_POD_GROUPS,
    NAMESPACES,
    NODES,
    POD_DISRUPTION_BUDGETS,
    POD_GROUPS,
    PODS,
)
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import StatusError, not_found
from corral.kinds.types import Key, Obj
from corral.machinery.caches import Caches
from corral.machinery.events import EventRecorder
from corral.scheduler.binder import Binder, Outcome
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.gangs import GangBook
from corral.scheduler.plan import Bind, Decision, Preempt, assign, plan
from corral.scheduler.preemption import Budget
from corral.scheduler.profile import SPREADING, Profile
from corral.scheduler.queue import PodQueue
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.storage import Storage
from corral.scheduler.trial import Trial
from corral.scheduler.volumebinder import VolumeBindingError
from corral.scheduler.volumes import Binding
from corral.scheduler.why import explain

_log = logging.getLogger(__name__)

# About 5 ms of deciding, after which bindings and informers get their turn.
_BATCH = 100
# So long a gang that is not complete is left alone after each arrival: the rest is probably on its way.
_SETTLING_SECONDS = 1.0
DEFAULT_NAME = "default-scheduler"
_NO_OTHERS: Mapping[str, Profile] = {}


class Scheduler:
    """Binds the pods whose `schedulerName` is `name`, or one of `others`, to machines.

    Args:
        client: acts as the scheduler's own user.
        rng: breaks ties between equally good machines.
        profile: how machines are chosen.
        others: by further scheduler names, how machines are chosen for the pods that ask for these.
        active: until it is set, everything is followed and nothing decided; default: it is set.
        caches: copies of what it reads that somebody else keeps fresh; default: some of its own.
    """

    def __init__(
        self,
        client: Client,
        *,
        clock: Clock,
        rng: random.Random,
        name: str = DEFAULT_NAME,
        profile: Profile = SPREADING,
        others: Mapping[str, Profile] = _NO_OTHERS,
        active: asyncio.Event | None = None,
        caches: Caches | None = None,
    ) -> None:
        self._name = name
        self.names = frozenset((name, *others))
        """The scheduler names that it answers to."""
        self._clock = clock
        self._rng = rng
        self._snapshot = Snapshot()
        self._profile = profile
        self._others = others
        self._cache = CandidateCache(self._snapshot, profile, others)
        self._gangs = GangBook()
        self._queue = PodQueue(self._gangs.gang, profile.order)
        self._keeps_copies = caches is None
        self._copies = copies = Caches(client, clock, rng) if caches is None else caches
        self._nodes, self._pods = copies.get(NODES), copies.get(PODS)
        self._namespaces, self._disruptions = copies.get(NAMESPACES), copies.get(POD_DISRUPTION_BUDGETS)
        self._budgets: dict[Key, Budget] = {}
        self._recorder = EventRecorder(client, name, clock)
        self._binder = Binder(client, self._recorder, clock, self._bound, component=name)
        self._assumed: dict[Key, str] = {}
        """The uids of the pods whose binding is under way."""
        self.synced = asyncio.Event()
        """Set once everything is known that decisions go by."""
        self._active = active
        self._wake = asyncio.Event()
        self._reshaped = False
        """Whether machines changed, so that refusals may have other reasons."""
        self._freed = False
        """Whether something changed that may let any refused pod fit."""
        self._placed = False
        """Whether a pod was placed, which may let those fit that depend on where others are."""
        self._restocked = False
        """Whether storage changed, which may let pods with claims fit."""
        self._claims_changed: set[Key] = set()
        self._storage = Storage(client, copies, self._snapshot.volumes, self._on_storage)
        self._namespaces.on_event(self._on_namespace)
        self._disruptions.on_event(self._on_budget)
        for resource in (POD_GROUPS, COSCHEDULING_POD_GROUPS):
            copies.get(resource).on_event(self._on_group)
        self._nodes.on_event(self._on_node)
        self._pods.on_event(self._on_pod)

    async def run(self) -> None:
        """Schedule until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self._keeps_copies:
                tasks.create_task(self._copies.run(), name="scheduler-copies")
            tasks.create_task(self._recorder.run(), name="scheduler-events")
            tasks.create_task(self._binder.announce(), name="scheduler-announcer")
            # A group that is not known yet keeps its members waiting, so that there is no need to wait for groups.
            for informer in (self._namespaces, self._disruptions, self._nodes, *self._storage.informers, self._pods):
                await informer.synced.wait()
            self.synced.set()
            if self._active is not None:
                await self._active.wait()
            while True:
                await self._decide_all(tasks)
                await self._changed()

    def why(self, namespace: str, name: str) -> Obj:
        """Where the pod is, or why it is nowhere: machine by machine, and what would change it. Plain JSON data.

        Raises:
            StatusError: 404, there is no such pod.
        """
        pod_key = Key(namespace, name)
        pod = self._pods.get(pod_key)
        if pod is None:
            raise not_found("", "pods", name)
        name, profile = self._judge_of(pod)
        group = self._group_story(pod_key, pod, profile)
        with self._snapshot.without_nomination(pod_key) as nominated:
            return explain(self._snapshot, pod, scheduler=name, profile=profile, nominated=nominated, group=group)

    def _judge_of(self, pod: Obj) -> tuple[str, Profile]:
        """By whose name and rules a pod is looked at: by ours, if it names a scheduler that is none of us."""
        name = pod["spec"].get("schedulerName") or self._name
        return (name, self._others[name]) if name in self._others else (self._name, self._profile)

    def _group_story(self, key: Key, pod: Obj, profile: Profile) -> str:
        """What the gang of a waiting pod lacks, if it has one and lacks something."""
        gang = gang_of(pod)
        members = self._queue.waiting(gang) if gang is not None else []
        decisions = plan(self._snapshot, members, self._clock.now(), random.Random(0), profile=profile)
        return next((one.message for one in decisions if one.pod == key and not isinstance(one, Bind)), "")

    def nodes(self) -> list[Obj]:
        """The Nodes of the cell, for reading only, and of each what placing looks at."""
        return list(self._nodes.items())

    def trial(self, pods: Iterable[tuple[Key, Obj]], gone: Iterable[Key] = ()) -> Trial:
        """Find out what would become of `pods`, whose keys no pod of the cell may have, if `gone` were not there."""
        snapshot = self._snapshot.copy()
        for key in gone:
            snapshot.remove(key)
        cache = CandidateCache(snapshot, self._profile, self._others)
        gangs = self._gangs.copy()
        return Trial(cache, pods, self._clock.now(), random.Random(0), tuple(self._budgets.values()), gangs)

    async def _decide_all(self, tasks: asyncio.TaskGroup) -> None:
        self._wake.clear()
        self._retry_refused()
        while pending := self._queue.take(_BATCH, self._clock.monotonic()):
            budgets = tuple(self._budgets.values())
            decisions = assign(self._cache, pending, self._clock.now(), self._rng, budgets)
            for decision in decisions:
                self._perform(decision, tasks)
            if any(isinstance(decision, Preempt) for decision in decisions):
                self._drop_torn_nominations()
            await asyncio.sleep(0)

    def _perform(self, decision: Decision, tasks: asyncio.TaskGroup) -> None:
        key = decision.pod
        pod = self._pods.get(key)
        if pod is None:
            raise AssertionError(f"{key} is queued but not known")
        if isinstance(decision, Bind):
            self._note_placed()
            self._assumed[key] = pod["metadata"].get("uid", "")
            self._count(key, pod)
            binding = self._snapshot.volumes.binding(key)
            work = self._bind_with_volumes(pod, decision, binding) if binding else None
            tasks.create_task(work or self._binder.bind(pod, decision.node, decision.devices), name=f"bind {key}")
            return
        self._queue.refused(key, self._clock.monotonic())
        if isinstance(decision, Preempt):
            there = [victim for victim in map(self._pods.get, decision.victims) if victim is not None]
            victims = [victim for victim in there if not victim["metadata"].get("deletionTimestamp")]
            work = self._binder.preempt(pod, decision.node, victims, decision.message)
            tasks.create_task(work, name=f"preempt for {key}")
            return
        nominated = self._snapshot.nominations.get(key, "")
        tasks.create_task(self._binder.report(pod, decision.message, nominated=nominated), name=f"report {key}")

    async def _bind_with_volumes(self, pod: Obj, decision: Bind, binding: Binding) -> None:
        """Bind the pod's claims, then the pod."""
        key, node = decision.pod, decision.node
        try:
            await self._storage.binder.bind(binding, node)
        except (VolumeBindingError, StatusError, OSError) as error:
            _log.info("cannot bind the volumes of %s on %s, will decide anew: %s", key, node, error)
            message = f'running PreBind plugin "VolumeBinding": binding volumes: {error}'
            self._recorder.record(pod, "Warning", "FailedScheduling", message, action="Scheduling")
            self._bound(Outcome(key, pod["metadata"].get("uid", ""), bound=False))
            return
        await self._binder.bind(pod, node, decision.devices)

    def _retry_refused(self) -> None:
        if self._reshaped:
            self._queue.retry_all()
        if self._freed:
            for key in self._snapshot.nominations:
                self._queue.retry(key)
        if self._freed or self._placed or self._restocked:
            for pod_class in self._queue.refused_classes():
                concerned = self._freed or pod_class.peers.gains_by_others or (self._restocked and pod_class.claims)
                # A claim of its own that changed gives it another reason at least.
                fits = not self._claims_changed.isdisjoint(use.key for use in pod_class.claims)
                if fits or (concerned and self._cache.fits_somewhere(pod_class)):
                    self._queue.retry_class(pod_class)
        self._reshaped = self._freed = self._placed = self._restocked = False
        self._claims_changed.clear()

    def _drop_torn_nominations(self) -> None:
        """A gang that lost the room of some members to a more important pod gives up that of the others."""
        nominated: dict[GangKey, list[Key]] = {}
        for key in self._snapshot.nominations:
            pod = self._pods.get(key)
            gang = gang_of(pod) if pod is not None else None
            if gang is not None:
                nominated.setdefault(gang, []).append(key)
        for gang, keys in nominated.items():
            group = self._gangs.gang(gang)
            if group is not None and len(keys) < group.need:
                for key in keys:
                    self._snapshot.remove(key)
                self._queue.retry_gang(gang)

    async def _changed(self) -> None:
        """Return when something happened or a rest ends."""
        moment = self._queue.next_time()
        if moment is None:
            await self._wake.wait()
            return
        if self._wake.is_set():
            return
        alarm = asyncio.ensure_future(self._clock.sleep(max(0.0, moment - self._clock.monotonic())))
        alarm.add_done_callback(self._ring)
        try:
            await self._wake.wait()
        finally:
            alarm.remove_done_callback(self._ring)
            alarm.cancel()

    def _ring(self, _: object) -> None:
        self._wake.set()

    def _on_node(self, event: Event) -> None:
        shape, used = self._snapshot.shape, self._snapshot.used.end
        if event.new is None:
            self._snapshot.remove_node(event.key.name)
        else:
            try:
                self._snapshot.put_node(event.new)
            except ValueError as error:
                _log.warning("cannot use the machine %s: %s", event.key.name, error)
                return
        if self._snapshot.shape != shape:
            self._reshaped = True
        if (self._snapshot.shape, self._snapshot.used.end) != (shape, used):
            self._freed = True
            self._wake.set()

    def _on_namespace(self, event: Event) -> None:
        labels = None if event.new is None else event.new["metadata"].get("labels") or {}
        shape = self._snapshot.shape
        self._snapshot.put_namespace(event.key.name, labels)
        if self._snapshot.shape != shape:
            self._reshaped = self._freed = True
            self._wake.set()

    def _on_storage(self, claim: Key | None) -> None:
        if self._queue.any_refused:
            self._restocked = True
            if claim is not None:
                self._claims_changed.add(claim)
            self._wake.set()

    def _on_budget(self, event: Event) -> None:
        self._budgets.pop(event.key, None)
        if event.new is not None:
            allowed = (event.new.get("status") or {}).get("disruptionsAllowed") or 0
            selector = LabelSelector.from_object((event.new.get("spec") or {}).get("selector"))
            self._budgets[event.key] = Budget(event.key.namespace, selector, int(allowed))

    def _on_group(self, event: Event) -> None:
        key = key_of_group(event.obj)
        if self._gangs.put(key, None if event.new is None else minimum_of(event.new)):
            self._queue.retry_gang(key)
            self._wake.set()

    def _count(self, key: Key, pod: Obj, *, gone: bool = False) -> None:
        """Note whether the pod, if it belongs to a gang, is one of those that count."""
        gang = gang_of(pod)
        if gang is None:
            return
        here = not gone and (counts(pod) or (key in self._assumed and not is_terminal(pod)))
        if self._gangs.see(gang, key, counts=here) and here:
            self._queue.retry_gang(gang)
            self._wake.set()

    def _on_pod(self, event: Event) -> None:
        pod, key = event.new, event.key
        self._count(key, event.obj, gone=pod is None)
        if pod is not None and event.old is not None and gang_of(event.old) != gang_of(pod):
            self._count(key, event.old, gone=True)
        if pod is None or is_terminal(pod):
            self._queue.discard(key)
            self._assumed.pop(key, None)
            self._free(key)
            return
        try:
            self._take_in(key, pod)
        except (ValueError, StatusError) as error:
            self._queue.discard(key)
            message = f"cannot read what the pod asks for: {error}"
            self._recorder.record(pod, "Warning", "FailedScheduling", message, action="Scheduling")
            _log.warning("cannot schedule %s: %s", key, error)

    def _take_in(self, key: Key, pod: Obj) -> None:
        spec = pod["spec"]
        node = spec.get("nodeName")
        if node:
            self._queue.discard(key)
            self._assumed.pop(key, None)
            self._place(key, pod, node)
        elif not self._is_mine(pod):
            self._queue.discard(key)
            if key not in self._assumed:
                self._free(key)
        elif key not in self._assumed:
            self._wait(key, pod)

    def _wait(self, key: Key, pod: Obj) -> None:
        pod_class = self._snapshot.classify(pod)
        gang = gang_of(pod)
        if not self._queue.add(key, pod_class, priority(pod), gang, self._rest_until(gang)):
            return
        nominated = (pod.get("status") or {}).get("nominatedNodeName")
        if nominated and not self._snapshot.node_of(key):
            self._snapshot.nominate(key, pod_class, nominated)
        self._wake.set()

    def _rest_until(self, gang: GangKey | None) -> float:
        """Until when a pod that arrives is left alone, because its gang is not complete; 0 if it is, or if the pod has
        none."""
        group = self._gangs.gang(gang) if gang is not None else None
        if gang is None or group is None or not group.lack(self._queue.count(gang) + 1):
            return 0.0
        return self._clock.monotonic() + _SETTLING_SECONDS

    def _place(self, key: Key, pod: Obj, node: str) -> None:
        known, before = bool(self._snapshot.node_of(key)), self._snapshot.used.end
        self._snapshot.place(key, self._snapshot.classify(pod, placed=True), node)
        if self._snapshot.used.end == before:
            return
        if known:
            self._freed = True
            self._wake.set()
        else:
            self._note_placed()

    def _note_placed(self) -> None:
        if self._queue.any_refused:
            self._placed = True
            self._wake.set()

    def _is_mine(self, pod: Obj) -> bool:
        spec = pod["spec"]
        if spec.get("schedulingGates") or pod["metadata"].get("deletionTimestamp"):
            return False
        return (spec.get("schedulerName") or DEFAULT_NAME) in self.names

    def _free(self, key: Key) -> None:
        if self._snapshot.remove(key):
            self._freed = True
            self._wake.set()

    def _bound(self, outcome: Outcome) -> None:
        """A binding ended; if it failed, what was assumed is taken back."""
        if outcome.bound or self._assumed.get(outcome.key) != outcome.uid:
            return
        del self._assumed[outcome.key]
        self._free(outcome.key)
        pod = self._pods.get(outcome.key)
        if pod is not None:
            self._count(outcome.key, pod)
        if pod is not None and self._is_mine(pod):
            self._queue.failed(outcome.key, self._clock.monotonic())
            self._wake.set()
