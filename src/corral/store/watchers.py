"""Fan-out: each watcher gets the changes under its prefix, in a buffer of its own that cannot grow without bound.

A batch of changes is sorted out once per distinct prefix, not once per watcher: a thousand watchers of one collection
cost a thousand list extensions and wake-ups; and of a thousand that want a topic each, only those are woken whose topic
it is (the agents of a cell, which watch the pods of their own machines; kube-apiserver's watch cache has such triggers,
too). Which prefixes are watched above a key is the same for all of its
neighbours and remembered until somebody comes or goes; they are found by their lengths, so that even then it takes a
few dozen leading texts of the key whatever the number of watchers.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

from corral.store.filed import filed_under
from corral.store.protocol import Change, Compacted, Filing, Topic

_ROUTES_KEPT = 10_000


class Watcher:
    """One watch, see `corral.store.protocol.Watch`."""

    def __init__(
        self,
        prefix: str,
        after: int,
        backlog: Sequence[Change],
        buffer: int,
        latest: Callable[[], int],
        drop: Callable[["Watcher"], None],
        only: Topic | None = None,
    ) -> None:
        self.prefix = prefix
        self.only = only
        self._pending: list[Change] = list(backlog)
        self._delivered = after
        self._buffer = buffer
        self._room = buffer + len(backlog)
        self._latest = latest
        self._drop = drop
        self._closed = False
        self._behind: Compacted | None = None
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, changes: Sequence[Change]) -> bool:
        """Add changes; False if they do not fit, and then the reader gets `Compacted`."""
        if len(self._pending) + len(changes) > self._room:
            self.expire()
            return False
        self._pending += changes
        self._wake()
        return True

    def expire(self) -> None:
        """History has a hole: the reader gets `Compacted`."""
        self._behind = Compacted(self._delivered, self._latest())
        self._pending.clear()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> AsyncIterator[Sequence[Change]]:
        return self

    async def __anext__(self) -> Sequence[Change]:
        while not self._pending:
            if self._behind is not None:
                raise self._behind
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.take()

    def take(self) -> Sequence[Change]:
        """What is buffered, without waiting. Raises `Compacted`."""
        if self._behind is not None:
            raise self._behind
        batch, self._pending = self._pending, []
        if batch:
            self._room = self._buffer
            self._delivered = batch[-1].entry.revision
        return batch

    def progress(self) -> int:
        """The revision up to which everything under the prefix has been handed out."""
        if self._pending or self._behind is not None or self._closed:
            return self._delivered
        return self._latest()

    def close(self) -> None:
        """End the watch: what is buffered is dropped and the iteration ends."""
        if not self._closed:
            self._closed = True
            self._pending.clear()
            self._drop(self)
            self._wake()


class _Audience:
    """Those who watch one prefix."""

    def __init__(self) -> None:
        self._all: dict[Watcher, None] = {}
        self._topics: dict[Filing, dict[str, dict[Watcher, None]]] = {}

    def __iter__(self) -> Iterator[Watcher]:
        yield from self._all
        for topics in self._topics.values():
            for watchers in topics.values():
                yield from watchers

    def __bool__(self) -> bool:
        return bool(self._all or self._topics)

    def add(self, watcher: Watcher) -> None:
        only = watcher.only
        place = self._all if only is None else self._topics.setdefault(only.filing, {}).setdefault(only.value, {})
        place[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        """Idempotent."""
        if watcher.only is None:
            self._all.pop(watcher, None)
            return
        filing, value = watcher.only
        topics = self._topics.get(filing, {})
        watchers = topics.get(value, {})
        watchers.pop(watcher, None)
        if not watchers:
            topics.pop(value, None)
        if not topics:
            self._topics.pop(filing, None)

    def offer(self, changes: Sequence[Change]) -> list[Watcher]:
        """Hand out changes; those who have no room for them."""
        slow = [watcher for watcher in self._all if not watcher.offer(changes)]
        for filing, topics in self._topics.items():
            for value, batch in _filed(changes, filing).items():
                slow += [watcher for watcher in topics.get(value, ()) if not watcher.offer(batch)]
        return slow


def _filed(changes: Sequence[Change], filing: Filing) -> dict[str, list[Change]]:
    found: dict[str, list[Change]] = {}
    for change in changes:
        for value in filed_under(change, filing):
            found.setdefault(value, []).append(change)
    return found


class Watchers:
    """All watches of a store."""

    def __init__(self) -> None:
        self._by_prefix: dict[str, _Audience] = {}
        self._lengths: Counter[int] = Counter()
        self._partial: Counter[int] = Counter()
        """Lengths of the prefixes that do not end with a slash."""
        self._routes: dict[str, list[str]] = {}
        """By the text of a key up to its last slash: the prefixes with a slash at their end, until those change."""

    def __len__(self) -> int:
        return len(self._everyone())

    def open(
        self,
        prefix: str,
        after: int,
        backlog: Sequence[Change],
        buffer: int,
        latest: Callable[[], int],
        only: Topic | None = None,
    ) -> Watcher:
        """A watcher that begins with `backlog` and gets everything of its topic that is published from now on."""
        watcher = Watcher(prefix, after, backlog, buffer, latest, self._discard, only)
        if prefix not in self._by_prefix:
            self._by_prefix[prefix] = _Audience()
            self._lengths_of(prefix)[len(prefix)] += 1
            self._routes.clear()
        self._by_prefix[prefix].add(watcher)
        return watcher

    def _discard(self, watcher: Watcher) -> None:
        audience = self._by_prefix.get(watcher.prefix)
        if audience is None:
            return
        audience.remove(watcher)
        if not audience:
            del self._by_prefix[watcher.prefix]
            lengths, length = self._lengths_of(watcher.prefix), len(watcher.prefix)
            lengths[length] -= 1
            if not lengths[length]:
                del lengths[length]
            self._routes.clear()

    def _lengths_of(self, prefix: str) -> "Counter[int]":
        return self._lengths if prefix.endswith("/") else self._partial

    def publish(self, changes: Sequence[Change]) -> None:
        """Hand `changes` to every watcher they concern; a watcher that has no room is dropped."""
        for prefix, batch in self._sort_out(changes).items():
            for slow in self._by_prefix[prefix].offer(batch):
                self._discard(slow)

    def _sort_out(self, changes: Sequence[Change]) -> dict[str, list[Change]]:
        batches: dict[str, list[Change]] = {}
        for change in changes:
            key = change.entry.key
            place = key[: key.rfind("/") + 1]
            found = self._routes.get(place)
            for prefix in self._route(place) if found is None else found:
                batches.setdefault(prefix, []).append(change)
            if self._partial:
                for prefix in self._watched(key, self._partial):
                    if not prefix.endswith("/"):
                        batches.setdefault(prefix, []).append(change)
        return batches

    def _route(self, place: str) -> list[str]:
        if len(self._routes) >= _ROUTES_KEPT:
            self._routes.clear()
        found = self._routes[place] = [one for one in self._watched(place, self._lengths) if one.endswith("/")]
        return found

    def _watched(self, text: str, lengths: Iterable[int]) -> list[str]:
        """The prefixes of those lengths that `text` starts with and somebody watches."""
        return [text[:length] for length in lengths if length <= len(text) and text[:length] in self._by_prefix]

    def expire(self) -> None:
        """Tell all readers to list again."""
        for watcher in self._everyone():
            watcher.expire()
            self._discard(watcher)

    def close(self) -> None:
        """End all watches."""
        for watcher in self._everyone():
            watcher.close()

    def _everyone(self) -> list[Watcher]:
        return [watcher for audience in self._by_prefix.values() for watcher in audience]
