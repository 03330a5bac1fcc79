"""The queue against a plain model, after any sequence of calls: nobody is lost, taken twice, or torn from its gang."""

from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from corral.kinds.podgroups import GangKey
from corral.kinds.types import Key
from corral.scheduler.gangs import Gang
from corral.scheduler.plan import Pending
from corral.scheduler.podclass import PodClass
from corral.scheduler.queue import PodQueue
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import pod

SNAPSHOT = Snapshot()
CLASSES = [SNAPSHOT.classify(pod("p", cpu=cpu)) for cpu in ("1", "2")]
LONGEST = 300.0

names = st.sampled_from([Key("", name) for name in "abcdef"])
gangs = st.sampled_from([None, GangKey("", "", "g"), GangKey("", "", "h")])


class Model(RuleBasedStateMachine):
    """Pods wait, or are out: taken and not yet given back."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = PodQueue(lambda key: Gang(key, 2))
        self.now = 0.0
        self.waiting: dict[Key, GangKey | None] = {}
        self.out: dict[Key, GangKey | None] = {}

    @rule(key=names, pod_class=st.sampled_from(CLASSES), priority=st.integers(0, 1), gang=gangs, rests=st.booleans())
    def add(self, key: Key, pod_class: PodClass, priority: int, gang: GangKey | None, rests: bool) -> None:
        if key in self.out:
            return
        if self.queue.add(key, pod_class, priority, gang, self.now + 1.0 if rests else 0.0):
            self.waiting[key] = gang

    @rule(key=names)
    def discard(self, key: Key) -> None:
        self.queue.discard(key)
        self.waiting.pop(key, None)
        self.out.pop(key, None)

    @rule(limit=st.integers(1, 3))
    def take(self, limit: int) -> None:
        self._took(self.queue.take(limit, self.now), limit)

    def _took(self, pending: Iterable[Pending], limit: int) -> None:
        keys = [one.key for one in pending]
        assert len(keys) == len(set(keys))
        taken = {self.waiting[key] for key in keys} - {None}
        for key, gang in self.waiting.items():
            assert (key in keys) or gang not in taken, "a gang is taken whole"
        assert len(keys) <= limit or taken, "only gangs exceed the limit"
        for key in keys:
            self.out[key] = self.waiting.pop(key)

    @rule(key=names, failed=st.booleans())
    def give_back(self, key: Key, failed: bool) -> None:
        if key in self.out:
            (self.queue.failed if failed else self.queue.refused)(key, self.now)
            self.waiting[key] = self.out.pop(key)

    @rule(pod_class=st.sampled_from(CLASSES))
    def retry_class(self, pod_class: PodClass) -> None:
        self.queue.retry_class(pod_class)

    @rule()
    def retry_all(self) -> None:
        self.queue.retry_all()

    @rule(key=names)
    def retry(self, key: Key) -> None:
        self.queue.retry(key)

    @rule(gang=gangs)
    def retry_gang(self, gang: GangKey | None) -> None:
        if gang is not None:
            self.queue.retry_gang(gang)

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.queue) == len(self.waiting) + len(self.out)
        for gang in (GangKey("", "", "g"), GangKey("", "", "h")):
            members = {key for key, mine in self.waiting.items() if mine == gang}
            assert {pending.key for pending in self.queue.waiting(gang)} == members
            assert self.queue.count(gang) == len(members)

    def teardown(self) -> None:
        self.now += LONGEST
        self._took(self.queue.take(99, self.now), 99)
        assert not self.waiting, "after the longest rest everybody is ready"


Model.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestQueue = Model.TestCase
