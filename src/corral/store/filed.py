"""What is under a prefix, and how it changed, by what it is filed under: lists and watches by a field do not look at
everything.

A write costs nothing here. The first to ask reads everything under the prefix; later ones catch up with what changed
since somebody asked, which is looked at once, however many ask by however many values.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable

from corral.store.protocol import Change, Entry, Filing


class Filed:
    """The entries under one prefix by one filing, as of `revision`."""

    def __init__(self, filing: Filing, entries: Iterable[Entry], revision: int) -> None:
        self.revision = revision
        self._filing = filing
        self._values: dict[str, str] = {}
        """What the entry of each key is filed under."""
        self._entries: dict[str, dict[str, Entry]] = {}
        self._listings: dict[str, tuple[Entry, ...]] = {}
        for entry in entries:
            self._add(entry)

    def catch_up(self, keys: Iterable[str], get: Callable[[str], Entry | None], revision: int) -> None:
        """File anew what `keys` hold at `revision`: all keys that changed since the last one."""
        for key in set(keys):
            self._remove(key)
            entry = get(key)
            if entry is not None:
                self._add(entry)
        self.revision = revision

    def _add(self, entry: Entry) -> None:
        value = self._filing(entry)
        self._values[entry.key] = value
        self._entries.setdefault(value, {})[entry.key] = entry
        self._listings.pop(value, None)

    def _remove(self, key: str) -> None:
        value = self._values.pop(key, None)
        if value is None:
            return
        entries = self._entries[value]
        del entries[key]
        if not entries:
            del self._entries[value]
        self._listings.pop(value, None)

    def listing(self, value: str) -> tuple[Entry, ...]:
        """What is filed under `value`, in key order."""
        found = self._listings.get(value)
        if found is None:
            entries = self._entries.get(value)
            if entries is None:
                return ()
            found = self._listings[value] = tuple([entries[key] for key in sorted(entries)])
        return found


class FiledChanges:
    """The recent changes by what they are filed under, up to `revision`: where a watch resumes without looking at what
    does not concern it."""

    def __init__(self, values: Callable[[Change], Collection[str]], revision: int) -> None:
        self.revision = revision
        self._values = values
        self._changes: dict[str, list[Change]] = {}

    def catch_up(self, changes: Iterable[Change], revision: int) -> None:
        """File the changes since the last one."""
        for change in changes:
            for value in self._values(change):
                self._changes.setdefault(value, []).append(change)
        self.revision = revision

    def since(self, value: str, revision: int) -> list[Change]:
        """The changes under `value` above `revision`, oldest first."""
        found = self._changes.get(value, [])
        return found[bisect_right(found, revision, key=_revision) :]

    def forget(self, revision: int) -> None:
        """Drop the changes up to `revision`."""
        for value in list(self._changes):
            left = self.since(value, revision)
            if left:
                self._changes[value] = left
            else:
                del self._changes[value]
        self.revision = max(self.revision, revision)


def filed_under(change: Change, filing: Filing) -> Collection[str]:
    """What the entry is filed under, as it is and as it was."""
    now = filing(change.entry)
    return (now,) if change.previous is None else {now, filing(change.previous)}


def _revision(change: Change) -> int:
    return change.entry.revision
