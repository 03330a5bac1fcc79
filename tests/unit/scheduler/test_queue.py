"""Pods that wait for a decision."""

from corral.kinds.podgroups import GangKey
from corral.kinds.types import Key
from corral.scheduler.gangs import Gang
from corral.scheduler.queue import PodQueue
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import pod

SNAPSHOT = Snapshot()
SMALL = SNAPSHOT.classify(pod("p", cpu="1"))
LARGE = SNAPSHOT.classify(pod("p", cpu="9"))


def names(queue: PodQueue, now: float = 0.0, limit: int = 100) -> list[str]:
    return [pending.key.name for pending in queue.take(limit, now)]


def queue_of(*pods: str) -> PodQueue:
    queue = PodQueue()
    for name in pods:
        queue.add(Key("", name), SMALL, 0)
    return queue


def test_priority_then_arrival() -> None:
    queue = queue_of("a", "b")
    queue.add(Key("", "c"), SMALL, 5)
    assert names(queue, limit=2) == ["c", "a"]
    assert names(queue) == ["b"]
    assert names(queue) == []


def test_a_pod_that_did_not_change_is_not_taken_twice() -> None:
    queue = queue_of("a")
    assert names(queue) == ["a"]
    assert not queue.add(Key("", "a"), SMALL, 0)
    assert names(queue) == []
    assert queue.add(Key("", "a"), LARGE, 0)
    assert names(queue) == ["a"]


def test_a_discarded_pod_is_not_taken() -> None:
    queue = queue_of("a", "b")
    queue.discard(Key("", "a"))
    queue.discard(Key("", "none"))
    assert names(queue) == ["b"]
    assert len(queue) == 1


def test_a_refused_pod_rests_five_minutes_at_most() -> None:
    queue = queue_of("a")
    names(queue)
    queue.refused(Key("", "a"), 10.0)
    assert queue.next_time() == 310.0
    assert names(queue, 309.0) == []
    assert names(queue, 310.0) == ["a"]
    assert queue.next_time() is None


def test_a_refused_class_is_retried_at_once_when_it_fits() -> None:
    queue = queue_of("a", "b")
    queue.add(Key("", "c"), LARGE, 0)
    for name in names(queue):
        queue.refused(Key("", name), 0.0)
    assert queue.refused_classes() == [SMALL, LARGE]
    queue.retry_class(SMALL)
    assert names(queue) == ["a", "b"]
    assert queue.refused_classes() == [LARGE]


def test_a_change_of_machines_retries_after_a_growing_back_off() -> None:
    queue = queue_of("a")
    now = 0.0
    for wait in (1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
        assert names(queue, now) == ["a"]
        queue.refused(Key("", "a"), now)
        queue.retry_all()
        queue.retry_all()
        assert queue.next_time() == now + wait
        now += wait


def test_a_failed_binding_is_tried_again_later() -> None:
    queue = queue_of("a")
    names(queue)
    queue.failed(Key("", "a"), 0.0)
    queue.failed(Key("", "gone"), 0.0)
    assert names(queue, 0.5) == []
    assert names(queue, 1.0) == ["a"]


def test_a_changed_pod_leaves_its_old_class() -> None:
    queue = queue_of("a")
    names(queue)
    queue.refused(Key("", "a"), 0.0)
    queue.add(Key("", "a"), LARGE, 0)
    assert queue.refused_classes() == []
    assert names(queue) == ["a"]
    queue.refused(Key("", "a"), 0.0)
    queue.discard(Key("", "a"))
    assert queue.refused_classes() == []
    assert queue.next_time() is None


def test_one_refused_pod_can_be_retried() -> None:
    queue = queue_of("a", "b")
    names(queue)
    queue.refused(Key("", "a"), 0.0)
    queue.refused(Key("", "b"), 0.0)
    queue.retry(Key("", "b"))
    queue.retry(Key("", "none"))
    assert names(queue) == ["b"]
    assert queue.any_refused


GANG = GangKey("scheduling.k8s.io", "", "g")


def gang_queue(*members: str) -> PodQueue:
    queue = PodQueue(lambda key: Gang(key, 2))
    for name in members:
        queue.add(Key("", name), SMALL, 0, GANG)
    return queue


def test_a_gang_is_taken_whole_whatever_the_limit() -> None:
    queue = gang_queue("a")
    queue.add(Key("", "x"), SMALL, 0)
    queue.add(Key("", "b"), SMALL, 5, GANG)
    assert queue.count(GANG) == 2
    taken = queue.take(1, 0.0)
    assert sorted(pending.key.name for pending in taken) == ["a", "b"]
    assert {pending.gang for pending in taken} == {Gang(GANG, 2)}
    assert queue.count(GANG) == 0
    assert names(queue) == ["x"]


def test_members_that_rest_come_along_with_one_that_is_ready() -> None:
    queue = gang_queue()
    queue.add(Key("", "a"), SMALL, 0, GANG, rest_until=1.0)
    assert names(queue, 0.5) == []
    assert [pending.key.name for pending in queue.waiting(GANG)] == ["a"]
    queue.add(Key("", "b"), SMALL, 0, GANG)
    assert names(queue, 0.5) == ["a", "b"]
    assert queue.next_time() is None
    assert names(queue, 1.0) == [], "what was taken does not become ready by a rest that has ended"


def test_a_refused_gang_is_retried_after_a_back_off() -> None:
    queue = gang_queue("a", "b")
    for name in names(queue):
        queue.refused(Key("", name), 10.0)
    queue.retry_class(SMALL)
    queue.retry_class(SMALL)
    assert queue.next_time() == 11.0
    assert names(queue, 10.5) == []
    assert names(queue, 11.0) == ["a", "b"]
    for name in ("a", "b"):
        queue.refused(Key("", name), 11.0)
    queue.retry_class(SMALL)
    assert queue.next_time() == 13.0
    assert queue.refused_classes() == [SMALL]


def test_a_gang_that_has_changed_is_ready_at_once() -> None:
    queue = gang_queue("a", "b")
    for name in names(queue):
        queue.refused(Key("", name), 10.0)
    queue.retry_gang(GANG)
    queue.retry_gang(GangKey("", "", "none"))
    assert names(queue, 10.0) == ["a", "b"]
    assert queue.refused_classes() == []


def test_a_member_that_is_out_for_a_binding_is_not_taken_again() -> None:
    queue = gang_queue("a", "b")
    assert names(queue) == ["a", "b"]
    queue.failed(Key("", "b"), 0.0)
    assert queue.count(GANG) == 1
    assert names(queue, 1.0) == ["b"]
    queue.discard(Key("", "a"))
    queue.discard(Key("", "b"))
    assert queue.count(GANG) == 0
    assert len(queue) == 0


def test_a_pod_may_change_its_gang() -> None:
    queue = gang_queue("a", "b")
    other = GangKey("scheduling.k8s.io", "", "other")
    assert queue.add(Key("", "b"), SMALL, 0, other)
    assert (queue.count(GANG), queue.count(other)) == (1, 1)
    assert queue.add(Key("", "b"), SMALL, 0)
    assert queue.count(other) == 0
    assert names(queue, limit=1) == ["a"]
    assert names(queue) == ["b"]
