"""When the fence shuts, in tables; that there are never two holders, under any timing (a simulation on one clock)."""

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.agent.fence import Fence
from corral.controllers.nodelifecycle.plan import Sighting, forgiven, sighting, verdict
from corral.kinds.health import DEFAULT, FAST, FENCED, PROMISE, SILENCE, WAN, HealthProfile, Terms, annotation
from corral.kinds.types import Obj

TERMS = Terms(renew=1.0, lease=4, fence=5.0, kill=2.0)
SHORT = Terms(renew=1.0, lease=2, fence=2.0, kill=1.0)


def armed(sent: float = 100.0, terms: Terms = TERMS) -> Fence:
    fence = Fence()
    fence.offer(terms)
    fence.renewed(sent, fenced=False)
    return fence


def test_it_counts_from_when_the_last_good_renewal_was_sent() -> None:
    fence = armed(100.0)
    assert fence.left(103.0) == 2.0
    assert not fence.check(104.9)
    assert fence.check(105.0)
    fence.offer(TERMS)
    fence.renewed(106.0, fenced=False)
    assert fence.check(106.5), "a renewal alone does not open it"
    assert fence.open(107.0)
    assert not fence.open(111.0), "it was time to shut it again"


def test_without_a_promise_it_never_shuts() -> None:
    fence = Fence()
    fence.renewed(0.0, fenced=False)
    assert fence.left(1e9) is None
    assert not fence.check(1e9)


def test_nothing_is_counted_before_the_first_renewal() -> None:
    fence = Fence()
    fence.offer(TERMS)
    assert fence.left(1e9) is None


def test_a_shorter_promise_binds_when_sent_and_a_longer_one_when_acknowledged() -> None:
    fence = armed(100.0)
    fence.offer(SHORT)
    assert fence.left(100.0) == 2.0
    fence.offer(TERMS)
    assert fence.left(100.0) == 2.0
    fence.offer(None)
    assert fence.left(100.0) == 2.0
    fence.renewed(101.0, fenced=False)
    assert fence.left(101.0) is None


def test_what_the_server_says_is_believed() -> None:
    fence = armed(100.0)
    fence.renewed(101.0, fenced=True)
    assert fence.check(101.0)
    assert fence.left(101.0) == 4.0, "such a renewal does not count"


@pytest.mark.parametrize("profile", [FAST, DEFAULT, WAN])
def test_the_order_of_events_in_every_profile(profile: HealthProfile) -> None:
    evicted = profile.lease + profile.toleration - 1  # times in taints are whole seconds
    assert profile.renew * 2 <= profile.lease
    assert profile.fence <= evicted
    assert profile.most_silent < 1


@pytest.mark.parametrize(("machines", "renew"), [(1, None), (2, 1.0), (500, 1.0), (501, 2.0), (5000, 2.0)])
def test_large_cells_renew_less_often(machines: int, renew: float | None) -> None:
    terms = DEFAULT.terms(machines, sole=True)
    assert (terms.renew if terms is not None else None) == renew


Delays = st.lists(st.sampled_from([0, 1, 3, 10, 40, 90, None]), min_size=1, max_size=40)
"""Tenths of a second that one message after the other takes; None: it is lost."""


@dataclass(frozen=True)
class Link:
    """How long messages take, again and again."""

    delays: list[int | None]

    def delay(self, number: int) -> int | None:
        return self.delays[number % len(self.delays)]


class World:
    """One machine, one lease, one server and one pod, on one clock that both sides see from afar: in seconds.

    The server decides with the functions that the controller has, from what it was shown of its own store; the agent
    has the real fence. A pod that is buried runs elsewhere at once, and one that is fenced dies at the last moment that
    was promised. While the disk is full (`full`: from when until when) nothing is written, and renewals that arrive
    are refused for that.
    """

    def __init__(
        self, there: Link, back: Link, lag: Link, evicted: float = 0.0, full: Sequence[tuple[float, float]] = ()
    ) -> None:
        self._there, self._back, self._lag = there, back, lag
        self._full = full
        self._refused = -math.inf
        self._evicted = evicted
        self._mail: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._fence = Fence()
        self._fence.shut = True  # pods begin with a list that is read after the first renewal
        self._attempt = self._known = self._own = 0
        self._sent = 0.0
        self._wanted = True
        self._kill_ends = math.inf
        self.runs = self.elsewhere = False
        self.now = 0.0
        self._stored: Obj = {"metadata": {"resourceVersion": 0, "annotations": {}}, "spec": {}}
        self._shown = self._stored
        self._seen: Sighting | None = None

    def tick(self, now: float) -> None:
        self.now = now
        while self._mail and self._mail[0][0] <= now:
            heapq.heappop(self._mail)[2]()
        self._pod()
        self._serve()

    def _post(self, delay: int | None, action: Callable[[], None]) -> None:
        if delay is not None:
            heapq.heappush(self._mail, (self.now + delay / 10, next(self._order), action))

    def renew(self) -> None:
        """What the agent does at its own times; whatever an earlier attempt brings is too late."""
        self._attempt += 1
        self._sent = self.now
        self._fence.offer(TERMS)
        number, follows = self._attempt, self._known
        self._post(self._there.delay(number), lambda: self._arrives(number, follows))

    def _is_full(self) -> bool:
        return any(begin <= self.now < end for begin, end in self._full)

    def _arrives(self, number: int, follows: int) -> None:
        if self._is_full():
            self._refused = self.now
            self._post(self._back.delay(number), lambda: self._excused(number))
            return
        accepted = follows == self._stored["metadata"]["resourceVersion"]
        if accepted:
            spec = {"renewTime": f"{number}", "leaseDurationSeconds": TERMS.lease}
            self._store({PROMISE: f"{TERMS.promise}"}, spec)
        answer = self._stored
        self._post(self._back.delay(number), lambda: self._answered(number, accepted, answer))

    def _answered(self, number: int, accepted: bool, lease: Obj) -> None:
        if number != self._attempt:
            return
        self._known = lease["metadata"]["resourceVersion"]
        if not accepted:
            return
        fenced = annotation(lease, SILENCE) == FENCED
        self._fence.renewed(self._sent, fenced=fenced)
        if self._fence.check(self.now) and not fenced:
            # Asked after the renewal, answered with what is in the API at that moment.
            self._post(self._there.delay(number + 1), self._lists)

    def _excused(self, number: int) -> None:
        if number == self._attempt and not self._fence.check(self.now):
            self._fence.excused(self._sent)

    def _lists(self) -> None:
        wanted = not self.elsewhere
        self._post(self._back.delay(self._attempt + 1), lambda: self._listed(wanted))

    def _listed(self, wanted: bool) -> None:
        if self._fence.open(self.now):
            self._wanted = wanted

    def _pod(self) -> None:
        if self._fence.check(self.now) or not self._wanted:
            self._kill_ends = min(self._kill_ends, self.now + TERMS.kill)
            self.runs = self.runs and self.now < self._kill_ends
        else:
            self.runs, self._kill_ends = True, math.inf

    def _store(self, notes: dict[str, str], spec: Obj | None = None) -> None:
        metadata = self._stored["metadata"]
        annotations = {**metadata["annotations"], **notes}
        revision = metadata["resourceVersion"] + 1
        self._stored = {
            "metadata": {"resourceVersion": revision, "annotations": annotations},
            "spec": spec or self._stored["spec"],
        }
        shown = self._stored
        self._post(self._lag.delay(revision) or 0, lambda: self._show(shown))

    def _show(self, lease: Obj) -> None:
        if lease["metadata"]["resourceVersion"] > self._shown["metadata"]["resourceVersion"]:
            self._shown = lease

    def _serve(self) -> None:
        if self._shown["metadata"]["resourceVersion"] < self._own:
            return  # a controller never decides on what was before its own last write
        node: Obj = {"status": {}}
        self._seen = forgiven(sighting(node, self._shown, self._seen, self.now), self._refused)
        if self._is_full():
            return
        said = verdict(self._seen, node, self._shown, self.now, held=False)
        current = self._shown["metadata"]["resourceVersion"] == self._stored["metadata"]["resourceVersion"]
        if said != annotation(self._shown, SILENCE):
            if current:
                self._store({SILENCE: said})
                self._own = self._stored["metadata"]["resourceVersion"]
            return
        # Buried only on a word that is written, and that nobody but us takes back.
        self.elsewhere = self.elsewhere or (said == FENCED and self.now >= self._evicted)


@settings(max_examples=300, deadline=None)
@given(
    there=Delays,
    back=Delays,
    lag=Delays,
    pauses=st.lists(st.integers(5, 40), min_size=1, max_size=20),
    evicted=st.integers(0, 500),
    full=st.lists(st.tuples(st.integers(0, 590), st.integers(1, 200)), max_size=3),
)
def test_never_two_holders(
    there: list[int | None],
    back: list[int | None],
    lag: list[int | None],
    pauses: list[int],
    evicted: int,
    full: list[tuple[int, int]],
) -> None:
    """Messages are late and lost both ways, the server sees its own store late, the agent tries at odd times, and the
    disk is full now and then."""
    times = [(begin / 10, (begin + lasts) / 10) for begin, lasts in full]
    world = World(Link(there), Link(back), Link(lag), evicted / 10, times)
    attempt = due = 0
    for tick in range(600):
        world.tick(tick / 10)
        assert not (world.elsewhere and world.runs), f"two holders at {world.now} s"
        if tick >= due:
            world.renew()
            attempt += 1
            due = tick + pauses[attempt % len(pauses)]


def test_a_full_disk_stops_nothing_and_a_machine_that_dies_meanwhile_is_found_afterwards() -> None:
    world, died = World(Link([0]), Link([0]), Link([0]), full=[(10.0, 40.0)]), 350
    for tick in range(600):
        world.tick(tick / 10)
        if tick % 10 == 0 and tick <= died:
            world.renew()
        assert not (world.elsewhere and world.runs)
        if 10 <= tick < died + 10 * TERMS.fence:
            assert world.runs, f"stopped at {world.now} s"
    assert world.elsewhere


@pytest.mark.parametrize("cut", [120, 125, 131])
def test_the_pod_moves_in_time(cut: int) -> None:
    """Not only safe: after a cut both ways the pod is elsewhere within the promise, a renewal and the margin."""
    world = World(Link([0]), Link([0]), Link([0]))
    moved = None
    for tick in range(400):
        world.tick(tick / 10)
        if tick % 10 == 0 and tick < cut:
            world.renew()
        if world.elsewhere and moved is None:
            moved = tick
        assert not (world.elsewhere and world.runs)
    assert world.elsewhere
    assert moved is not None
    assert cut < moved < cut + 10 * (TERMS.promise + 1)
