"""What is under a prefix, by what it is filed under: listings by a field that do not look at everything.

A write costs nothing here. The first to ask reads everything under the prefix; later ones catch up with the keys that
changed since somebody asked, each of which is looked at once, however many ask by however many values.
"""

from collections.abc import Callable, Iterable

from corral.store.protocol import Entry, Filing


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
