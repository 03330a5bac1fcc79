"""Pods that wait for a decision. Pure: time is passed in, as seconds of a monotonic clock.

A pod is either ready, in order of priority and then of arrival, or it rests until a moment: after a refusal for five
minutes (unless something changes that lets it fit), after a failed binding for a back-off that grows with each attempt.
"""

import heapq
import itertools
from dataclasses import dataclass, replace

from corral.base.backoff import Backoff
from corral.kinds.types import Key
from corral.scheduler.plan import Pending
from corral.scheduler.podclass import PodClass

# kube-scheduler's podInitialBackoffSeconds, podMaxBackoffSeconds and podMaxInUnschedulablePodsDuration.
_BACKOFF = Backoff(initial=1.0, maximum=10.0)
_LONGEST_REST = 300.0


@dataclass(slots=True)
class _Item:
    pending: Pending
    token: int
    """Heaps may hold outdated entries of a pod; the one with this token counts."""
    attempts: int = 0
    decided: float = 0.0
    refused: bool = False
    ready: bool = True


class PodQueue:
    """Pending pods, ready or resting."""

    def __init__(self) -> None:
        self._items: dict[Key, _Item] = {}
        self._ready: list[tuple[int, int, int, Key]] = []
        self._resting: list[tuple[float, int, Key]] = []
        self._refused: dict[PodClass, dict[Key, None]] = {}
        self._tokens = itertools.count()
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: Key) -> bool:
        return key in self._items

    def add(self, key: Key, pod_class: PodClass, priority: int) -> bool:
        """A pod wants a machine; nothing happens if it waits already and has not changed. Whether it is ready anew."""
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = _Item(Pending(key, pod_class, priority, next(self._arrivals)), 0)
        elif (item.pending.pod_class, item.pending.priority) == (pod_class, priority):
            return False
        else:
            self._unrefuse(item)
            item.pending = replace(item.pending, pod_class=pod_class, priority=priority)
        self._make_ready(item)
        return True

    def discard(self, key: Key) -> None:
        """The pod wants nothing any more."""
        item = self._items.pop(key, None)
        if item is not None:
            self._unrefuse(item)

    def take(self, limit: int, now: float) -> list[Pending]:
        """Up to `limit` ready pods, best first. They stay known: each must be followed by `refused`, `failed` or
        `discard`."""
        self._end_rests(now)
        taken: list[Pending] = []
        while self._ready and len(taken) < limit:
            *_, token, key = heapq.heappop(self._ready)
            item = self._items.get(key)
            if item is not None and item.token == token and item.ready:
                item.ready = False
                taken.append(item.pending)
        return taken

    def refused(self, key: Key, now: float) -> None:
        """No machine took the pod."""
        item = self._items[key]
        item.attempts += 1
        item.decided = now
        item.refused = True
        self._refused.setdefault(item.pending.pod_class, {})[key] = None
        self._rest(item, now + _LONGEST_REST)

    def failed(self, key: Key, now: float) -> None:
        """The pod was not bound although a machine took it; it tries again after a while."""
        item = self._items.get(key)
        if item is not None:
            item.attempts += 1
            self._rest(item, now + _BACKOFF.delay(item.attempts - 1))

    @property
    def any_refused(self) -> bool:
        """Whether a pod rests because no machine took it."""
        return bool(self._refused)

    def refused_classes(self) -> list[PodClass]:
        """The classes of the refused pods."""
        return list(self._refused)

    def retry_class(self, pod_class: PodClass) -> None:
        """Something changed that lets this class fit: its refused pods are ready at once."""
        for key in list(self._refused.get(pod_class, ())):
            item = self._items[key]
            self._unrefuse(item)
            self._make_ready(item)

    def retry(self, key: Key) -> None:
        """Something changed that may let this pod fit: if it was refused, it is ready at once."""
        item = self._items.get(key)
        if item is not None and item.refused:
            self._unrefuse(item)
            self._make_ready(item)

    def retry_all(self) -> None:
        """The machines changed, so that a refusal may have other reasons now: retry each pod after its back-off."""
        for key in itertools.chain.from_iterable(self._refused.values()):
            item = self._items[key]
            self._rest(item, item.decided + _BACKOFF.delay(item.attempts - 1))

    def next_time(self) -> float | None:
        """When the next rest ends; None if nothing rests."""
        while self._resting:
            moment, token, key = self._resting[0]
            item = self._items.get(key)
            if item is not None and item.token == token:
                return moment
            heapq.heappop(self._resting)
        return None

    def _end_rests(self, now: float) -> None:
        while (moment := self.next_time()) is not None and moment <= now:
            _, _, key = heapq.heappop(self._resting)
            item = self._items[key]
            self._unrefuse(item)
            self._make_ready(item)

    def _make_ready(self, item: _Item) -> None:
        item.token, item.ready = next(self._tokens), True
        pending = item.pending
        heapq.heappush(self._ready, (-pending.priority, pending.order, item.token, pending.key))

    def _rest(self, item: _Item, until: float) -> None:
        item.token, item.ready = next(self._tokens), False
        heapq.heappush(self._resting, (until, item.token, item.pending.key))

    def _unrefuse(self, item: _Item) -> None:
        if not item.refused:
            return
        item.refused = False
        keys: dict[Key, None] = self._refused[item.pending.pod_class]
        del keys[item.pending.key]
        if not keys:
            del self._refused[item.pending.pod_class]
