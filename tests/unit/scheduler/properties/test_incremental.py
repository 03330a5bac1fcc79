"""A snapshot that was kept up to date by events, in whatever order, equals one built from what there is now."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.unit.scheduler.properties.cells import SPACES, Obj, some_node, some_pod

from corral.kinds.accelerators import DEVICES_ANNOTATION
from corral.kinds.types import Key
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.profile import SPREADING
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import pod

# More than the first rows, so that the arrays grow and rows are given back and taken again.
MACHINES = [f"n{number}" for number in range(20)]
NAMES = [f"p{number}" for number in range(8)]
WITH_GPU = {"nvidia.com/gpu": "2"}


def placed(found: Obj, name: str, machine: str) -> Obj:
    """The pod, on a machine."""
    found["metadata"]["name"] = name
    found["spec"]["nodeName"] = machine
    return found


class Events(RuleBasedStateMachine):
    """What informers tell a scheduler, in any order: pods before their machines, machines that go before their pods."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshot = Snapshot()
        self.cache = CandidateCache(self.snapshot, SPREADING)
        self.nodes: dict[str, Obj] = {}
        self.pods: dict[Key, Obj] = {}
        self.nominated: dict[Key, Obj] = {}
        self.spaces: dict[str, Any] = {}
        self.asking: list[Obj] = [pod("plain", cpu="500m"), pod("port", host_ports=[80])]

    @rule(found=some_node(MACHINES), gpus=st.booleans())
    def put_node(self, found: Obj, gpus: bool) -> None:
        if gpus:
            found["status"]["allocatable"] |= WITH_GPU
        self.nodes[found["metadata"]["name"]] = found
        self.snapshot.put_node(found)

    @rule(name=st.sampled_from(MACHINES))
    def remove_node(self, name: str) -> None:
        self.nodes.pop(name, None)
        self.snapshot.remove_node(name)

    @rule(
        found=some_pod, name=st.sampled_from(NAMES), machine=st.sampled_from(MACHINES[:6]), gpu=st.sampled_from("  01")
    )
    def place(self, found: Obj, name: str, machine: str, gpu: str) -> None:
        key = Key(found["metadata"]["namespace"], name)
        placed(found, name, machine)
        if gpu.strip():
            found["spec"]["containers"][0].setdefault("resources", {})["requests"] = {"nvidia.com/gpu": "1"}
            found["metadata"]["annotations"] = {DEVICES_ANNOTATION: gpu}
        self._forget(key)
        self.pods[key] = found
        self.snapshot.place(key, self.snapshot.classify(found, placed=True), machine)

    @rule(name=st.sampled_from(NAMES), space=st.sampled_from(SPACES))
    def end(self, name: str, space: str) -> None:
        key = Key(space, name)
        if key in self.pods:
            self.pods[key]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            found = self.pods[key]
            self.snapshot.place(key, self.snapshot.classify(found, placed=True), found["spec"]["nodeName"])

    @rule(name=st.sampled_from(NAMES), space=st.sampled_from(SPACES))
    def remove(self, name: str, space: str) -> None:
        key = Key(space, name)
        there = key in self.pods or key in self.nominated
        self._forget(key)
        assert self.snapshot.remove(key) == there

    @rule(found=some_pod, name=st.sampled_from(NAMES), machine=st.sampled_from(MACHINES[:6]))
    def nominate(self, found: Obj, name: str, machine: str) -> None:
        key = Key(found["metadata"]["namespace"], name)
        self._forget(key)
        self.nominated[key] = placed(found, name, machine)
        self.snapshot.nominate(key, self.snapshot.classify(found, placed=True), machine)

    @rule(space=st.sampled_from(SPACES), labels=st.sampled_from([None, {}, {"team": "x"}]))
    def relabel(self, space: str, labels: dict[str, str] | None) -> None:
        self.spaces.pop(space, None)
        if labels is not None:
            self.spaces[space] = labels
        self.snapshot.put_namespace(space, labels)

    @rule(found=some_pod)
    def ask(self, found: Obj) -> None:
        """Classes that were asked for before keep their derived data over all that follows."""
        self.asking = [*self.asking[-4:], found]
        self.cache.totals(self.snapshot.classify(found))

    def _forget(self, key: Key) -> None:
        self.pods.pop(key, None)
        self.nominated.pop(key, None)

    def from_scratch(self) -> Snapshot:
        """What there is now, told in another order."""
        made = Snapshot()
        for name, labels in self.spaces.items():
            made.put_namespace(name, labels)
        for key, found in self.pods.items():
            made.place(key, made.classify(found, placed=True), found["spec"]["nodeName"])
        for found in reversed(self.nodes.values()):
            made.put_node(found)
        for key, found in self.nominated.items():
            made.nominate(key, made.classify(found, placed=True), found["spec"]["nodeName"])
        return made

    @invariant()
    def equals_one_from_scratch(self) -> None:
        made = self.from_scratch()
        assert self.snapshot.usage() == made.usage()
        assert len(self.snapshot) == len(made) == len(self.nodes)
        assert self.snapshot.nominations == made.nominations
        assert by_priority(self.snapshot) == by_priority(made)
        assert self.snapshot.ports.keys() == made.ports.keys()
        assert totals(self.snapshot, self.cache, self.asking) == totals(
            made, CandidateCache(made, SPREADING), self.asking
        )


def by_priority(snapshot: Snapshot) -> dict[tuple[int, str], dict[str, int]]:
    """What the pods of each priority take on each machine."""
    return {
        (priority, snapshot.machine(row).name): {
            name: int(amounts[row, at]) for name, at in snapshot.columns.items() if amounts[row, at]
        }
        for priority, amounts in snapshot.by_priority.items()
        for row in snapshot.rows()
    }


def totals(snapshot: Snapshot, cache: CandidateCache, asking: list[Obj]) -> dict[str, list[float]]:
    """The score of each machine for each pod: it depends on all that filters and scores keep."""
    found = [cache.totals(snapshot.classify(wanted)) for wanted in asking]
    return {snapshot.machine(row).name: [round(float(one[row]), 6) for one in found] for row in snapshot.rows()}


TestEvents = Events.TestCase
TestEvents.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
