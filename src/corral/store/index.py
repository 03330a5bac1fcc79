"""The state that reads are served from: what every key holds now, and the recent changes.

Pure data: no I/O, no clock, one thread. A listing is cached as a tuple per prefix until something under it is written,
and by topic in `corral.store.filed`; a past revision is rebuilt from the present by undoing the changes since, and the
last few rebuilt listings are kept, because pages of one listing follow each other. What readers keep in `Entry.memo` is
dropped from superseded entries after a thousand further changes: by then the watchers have rendered them, and history
should cost no more than its values.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from sortedcontainers import SortedDict

from corral.store.filed import Filed, FiledChanges, filed_under
from corral.store.protocol import Change, Compacted, Entry, Filing, Future, Page, Topic

_VIEWS_KEPT = 1024
_PAST_KEPT = 8
_FILED_KEPT = 32
_FEW = 200
"""So few changes are looked through quicker than they are filed."""
_MEMOS_KEPT = 1_000
_END = "\U0010ffff"


class Index:
    """Current entries in key order and the changes above the compaction point."""

    def __init__(self) -> None:
        self.revision = 0
        self.compacted = 0
        self._entries: SortedDict = SortedDict()
        self._changes: list[Change] = []
        self._views: dict[str, tuple[Entry, ...]] = {}
        self._past: dict[tuple[str, Topic | None, int], tuple[Entry, ...]] = {}
        self._filed: dict[tuple[str, Filing], Filed] = {}
        self._filed_changes: dict[tuple[str, Filing], FiledChanges] = {}

    def restore(self, entries: dict[str, Entry], changes: list[Change], revision: int, compacted: int) -> None:
        """Begin with what was on disk; `changes` are those of the revisions `compacted + 1` to `revision`."""
        self._entries = SortedDict(entries)
        self._views.clear()
        self._past.clear()
        self._filed.clear()
        self._filed_changes.clear()
        self._changes = changes
        self.revision = revision
        self.compacted = compacted

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        """What `key` holds now."""
        entry: Entry | None = self._entries.get(key)
        return entry

    def apply(self, changes: Iterable[Change]) -> None:
        """Make the next revisions, which must follow the current one without a gap."""
        entries = self._entries
        for change in changes:
            entry = change.entry
            if entry.revision != self.revision + 1:
                raise AssertionError(f"revision {entry.revision} cannot follow {self.revision}")
            self.revision = entry.revision
            if not entry.key:
                # A revision that belongs to somebody else's key.
                self._changes.append(change)
                continue
            if change.type == "put":
                entries[entry.key] = entry
            else:
                del entries[entry.key]
            if self._views:
                self._invalidate(entry.key)
            self._changes.append(change)
            if len(self._changes) > _MEMOS_KEPT:
                self._drop_memo(self._changes[-_MEMOS_KEPT])

    @staticmethod
    def _drop_memo(change: Change) -> None:
        if change.previous is not None:
            change.previous.memo = None
        if change.type == "delete":
            change.entry.memo = None

    def _invalidate(self, key: str) -> None:
        end = key.find("/") + 1
        while end:
            self._views.pop(key[:end], None)
            end = key.find("/", end) + 1

    def current(self, prefix: str, only: Topic | None = None) -> tuple[Entry, ...]:
        """Every entry under `prefix`, or those `only` of a topic, in key order."""
        if only is not None:
            return self._filed_by(prefix, only.filing).listing(only.value)
        view = self._views.get(prefix)
        if view is not None:
            return view
        entries = self._entries
        view = tuple([entries[key] for key in entries.irange(prefix, prefix + _END)])
        if prefix.endswith("/"):
            if len(self._views) >= _VIEWS_KEPT:
                del self._views[next(iter(self._views))]
            self._views[prefix] = view
        return view

    def _filed_by(self, prefix: str, filing: Filing) -> Filed:
        # Put at the end of the dictionary, whose first one goes when there are too many.
        filed = self._filed.pop((prefix, filing), None)
        if filed is None:
            filed = Filed(filing, self.current(prefix), self.revision)
            while len(self._filed) >= _FILED_KEPT:
                del self._filed[next(iter(self._filed))]
        elif filed.revision < self.revision:
            keys = [change.entry.key for change in self.since(filed.revision) if change.entry.key.startswith(prefix)]
            filed.catch_up(keys, self.get, self.revision)
        self._filed[prefix, filing] = filed
        return filed

    def at(self, prefix: str, revision: int, only: Topic | None = None) -> tuple[Entry, ...]:
        """Every entry (of a topic) under `prefix` as of `revision`, in key order.

        Raises:
            Compacted, Future: `revision` cannot be served.
        """
        self.check(revision)
        if revision == self.revision:
            return self.current(prefix, only)
        view = self._past.get((prefix, only, revision))
        if view is None:
            view = self._rebuild(prefix, revision, only)
            while len(self._past) >= _PAST_KEPT:
                del self._past[next(iter(self._past))]
            self._past[prefix, only, revision] = view
        return view

    def _rebuild(self, prefix: str, revision: int, only: Topic | None) -> tuple[Entry, ...]:
        undone: dict[str, Entry | None] = {}
        for change in reversed(self.since(revision)):
            if change.entry.key.startswith(prefix):
                undone[change.entry.key] = change.previous
        present = self.current(prefix, only)
        if not undone:
            return present
        entries = {entry.key: entry for entry in present if entry.key not in undone}
        for key, entry in undone.items():
            if entry is not None and (only is None or only.filing(entry) == only.value):
                entries[key] = entry
        return tuple([entries[key] for key in sorted(entries)])

    def page(self, prefix: str, revision: int, limit: int, after: str, only: Topic | None = None) -> Page:
        """One part of the listing of `prefix` (of a topic) as of `revision` (0: now); `limit` 0 means all of it.

        Raises:
            Compacted, Future: `revision` cannot be served.
        """
        view = self.at(prefix, revision, only) if revision else self.current(prefix, only)
        start = bisect_right(view, after, key=_key) if after else 0
        end = min(len(view), start + limit) if limit > 0 else len(view)
        remaining = len(view) - end
        entries: Sequence[Entry] = view if end - start == len(view) else view[start:end]
        return Page(entries, revision or self.revision, remaining > 0, remaining)

    def check(self, revision: int) -> None:
        """Raise `Compacted` or `Future` unless `revision` can be listed or watched from."""
        if revision < self.compacted:
            raise Compacted(revision, self.compacted)
        if revision > self.revision:
            raise Future(revision, self.revision)

    def since(self, revision: int) -> Sequence[Change]:
        """The changes above `revision`, oldest first."""
        return self._changes[revision - self.compacted :]

    def history(self, prefix: str, after: int, only: Topic | None = None) -> Sequence[Change]:
        """The changes above `after` under `prefix` (of a topic), oldest first."""
        few, collection = self.revision - after < _FEW, _collection(prefix)
        if only is not None and not few:
            return self._changes_by(prefix, only.filing).since(only.value, after)
        if collection and not few:
            changes: Sequence[Change] = self._changes_by("/", _by_collection).since(collection, after)
        else:
            changes = self.since(after)
        found = [change for change in changes if change.entry.key.startswith(prefix)]
        return found if only is None else [one for one in found if only.value in filed_under(one, only.filing)]

    def _changes_by(self, prefix: str, filing: Filing) -> FiledChanges:
        filed = self._filed_changes.pop((prefix, filing), None)
        if filed is None:
            filed = FiledChanges(lambda change: filed_under(change, filing), self.compacted)
            while len(self._filed_changes) >= _FILED_KEPT:
                del self._filed_changes[next(iter(self._filed_changes))]
        new = [change for change in self.since(filed.revision) if change.entry.key.startswith(prefix)]
        filed.catch_up(new, self.revision)
        self._filed_changes[prefix, filing] = filed
        return filed

    def superseded(self, revision: int) -> list[int]:
        """The revisions that nobody can ask for once history below `revision` is forgotten: what the writes up to
        `revision` replaced, and deletes."""
        gone: list[int] = []
        for change in self._changes[: revision - self.compacted]:
            if change.previous is not None:
                gone.append(change.previous.revision)
            if change.type == "delete":
                gone.append(change.entry.revision)
        return gone

    def forget(self, revision: int) -> None:
        """Drop the history below `revision`; does nothing if it is gone already."""
        if revision <= self.compacted:
            return
        del self._changes[: revision - self.compacted]
        self.compacted = revision
        for filed_changes in self._filed_changes.values():
            filed_changes.forget(revision)
        self._past = {key: view for key, view in self._past.items() if key[2] >= revision}
        self._filed = {key: filed for key, filed in self._filed.items() if filed.revision >= revision}


def _key(entry: Entry) -> str:
    return entry.key


def _by_collection(entry: Entry) -> str:
    return _collection(entry.key)


def _collection(text: str) -> str:
    """The first two parts of a key, `/group/plural/`; empty if it has less."""
    middle = text.find("/", 1)
    return text[: text.find("/", middle + 1) + 1] if middle > 0 else ""
