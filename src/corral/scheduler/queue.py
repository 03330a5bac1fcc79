"""Pods that wait for a decision. Pure: time is passed in, as seconds of a monotonic clock.

A pod is either ready, in order of priority and then of arrival, or it rests until a moment: after a refusal for five
minutes (unless something changes that lets it fit), after a failed binding for a back-off that grows with each attempt.

The members of a gang that wait are taken together as soon as one of them is ready. Trying a gang costs as much as all
its members do, so it is not retried at once when something changes, but after a back-off.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from corral.base.backoff import Backoff
from corral.kinds.podgroups import GangKey
from corral.kinds.types import Key
from corral.scheduler.gangs import Gang
from corral.scheduler.plan import Pending
from corral.scheduler.podclass import PodClass
from corral.scheduler.profile import Order, by_priority

# kube-scheduler's podInitialBackoffSeconds, podMaxBackoffSeconds and podMaxInUnschedulablePodsDuration.
_BACKOFF = Backoff(initial=1.0, maximum=10.0)
_LONGEST_REST = 300.0


@dataclass(slots=True)
class _Item:
    pending: Pending
    token: int
    """Heaps may hold outdated entries of a pod; the one with this token counts."""
    gang: GangKey | None = None
    attempts: int = 0
    decided: float = 0.0
    refused: bool = False
    ready: bool = True
    until: float = 0.0
    """When it stops resting, unless it is ready."""


class PodQueue:
    """Pending pods, ready or resting.

    Args:
        gang: a group as it is now; None if its members are placed one by one.
        order: who is ready first.
    """

    def __init__(self, gang: Callable[[GangKey], Gang | None] = lambda key: None, order: Order = by_priority) -> None:
        self._gang = gang
        self._order = order
        self._items: dict[Key, _Item] = {}
        self._ready: list[tuple[tuple[float, ...], int, Key]] = []
        self._resting: list[tuple[float, int, Key]] = []
        self._refused: dict[PodClass, dict[Key, None]] = {}
        self._gangs: dict[GangKey, dict[Key, None]] = {}
        """The members that are ready or rest."""
        self._tokens = itertools.count()
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: Key) -> bool:
        return key in self._items

    def add(
        self, key: Key, pod_class: PodClass, priority: int, gang: GangKey | None = None, rest_until: float = 0.0
    ) -> bool:
        """A pod wants a machine; nothing happens if it waits already and has not changed. Whether that is news.

        Args:
            rest_until: it is not to be looked at before.
        """
        item = self._items.get(key)
        if item is None:
            item = self._items[key] = _Item(Pending(key, pod_class, priority, next(self._arrivals)), 0, gang)
        elif (item.pending.pod_class, item.pending.priority, item.gang) == (pod_class, priority, gang):
            return False
        else:
            self._unrefuse(item)
            self._leave_gang(item)
            item.gang = gang
            item.pending = replace(item.pending, pod_class=pod_class, priority=priority)
        if rest_until:
            self._rest(item, rest_until)
        else:
            self._make_ready(item)
        return True

    def discard(self, key: Key) -> None:
        """The pod wants nothing any more."""
        item = self._items.pop(key, None)
        if item is not None:
            self._unrefuse(item)
            self._leave_gang(item)

    def take(self, limit: int, now: float) -> list[Pending]:
        """Up to `limit` ready pods, best first, or more so that no gang is torn apart. They stay known: each must be
        followed by `refused`, `failed` or `discard`."""
        self._end_rests(now)
        taken: list[Pending] = []
        while self._ready and len(taken) < limit:
            _, token, key = heapq.heappop(self._ready)
            item = self._items.get(key)
            if item is None or item.token != token or not item.ready:
                continue
            if item.gang is None:
                item.ready = False
                taken.append(item.pending)
            else:
                taken += self._take_gang(item.gang)
        return taken

    def _take_gang(self, gang: GangKey) -> list[Pending]:
        now = self._gang(gang)
        items = [self._items[key] for key in self._gangs.pop(gang)]
        for item in items:
            self._unrefuse(item)
            item.token, item.ready = next(self._tokens), False
        return [replace(item.pending, gang=now) for item in items]

    def count(self, gang: GangKey) -> int:
        """How many members of a gang are ready or rest."""
        return len(self._gangs.get(gang, ()))

    def waiting(self, gang: GangKey) -> list[Pending]:
        """The members of a gang that are ready or rest."""
        now = self._gang(gang)
        return [replace(self._items[key].pending, gang=now) for key in self._gangs.get(gang, ())]

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
        """Something changed that lets this class fit: its refused pods are ready at once, gangs after a back-off."""
        refused = [self._items[key] for key in self._refused.get(pod_class, ())]
        self._retry_later(item for item in refused if item.gang is not None)
        for item in refused:
            if item.gang is None:
                self._unrefuse(item)
                self._make_ready(item)

    def retry(self, key: Key) -> None:
        """Something changed that may let this pod fit: if it was refused, it is ready at once."""
        item = self._items.get(key)
        if item is not None and item.refused:
            self._unrefuse(item)
            self._make_ready(item)

    def retry_gang(self, gang: GangKey) -> None:
        """The gang is another one now: it is ready at once."""
        for key in self._gangs.get(gang, ()):
            item = self._items[key]
            self._unrefuse(item)
            self._make_ready(item)
            return

    def retry_all(self) -> None:
        """The machines changed, so that a refusal may have other reasons now: retry each pod after its back-off."""
        self._retry_later(self._items[key] for keys in self._refused.values() for key in keys)

    def _retry_later(self, items: Iterable[_Item]) -> None:
        """Let the items rest no longer than their back-off; one member stands for its gang."""
        gangs: set[GangKey] = set()
        for item in items:
            if item.gang in gangs:
                continue
            if item.gang is not None:
                gangs.add(item.gang)
            until = item.decided + _BACKOFF.delay(item.attempts - 1)
            if not item.ready and item.until > until:
                self._rest(item, until)

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
        self._join_gang(item)
        pending = item.pending
        heapq.heappush(self._ready, (self._order(pending), item.token, pending.key))

    def _rest(self, item: _Item, until: float) -> None:
        item.token, item.ready, item.until = next(self._tokens), False, until
        self._join_gang(item)
        heapq.heappush(self._resting, (until, item.token, item.pending.key))

    def _join_gang(self, item: _Item) -> None:
        if item.gang is not None:
            self._gangs.setdefault(item.gang, {})[item.pending.key] = None

    def _leave_gang(self, item: _Item) -> None:
        if item.gang is None:
            return
        members = self._gangs.get(item.gang, {})
        members.pop(item.pending.key, None)
        if not members:
            self._gangs.pop(item.gang, None)

    def _unrefuse(self, item: _Item) -> None:
        if not item.refused:
            return
        item.refused = False
        keys: dict[Key, None] = self._refused[item.pending.pod_class]
        del keys[item.pending.key]
        if not keys:
            del self._refused[item.pending.pod_class]
