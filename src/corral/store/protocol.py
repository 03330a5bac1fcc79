"""What a store is.

A store maps keys (text, `/`-separated) to values (bytes) under one global, gap-free revision: the first write is
revision 1, each write adds one. A write is acknowledged only when it is durable. A lost compare-and-swap is a value
(`Conflict`); an exception means that the store is broken or was asked for the impossible. Current state is served from
memory: an `Entry` is shared by all readers and never changes, apart from `memo`, a slot in which the reader above keeps
what it derived from `value` (rendered bytes, decoded object), so that it derives it once.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from corral.base.errors import CorralError


class Entry:
    """A key's value as of one revision."""

    __slots__ = ("created", "key", "memo", "revision", "value")

    def __init__(self, key: str, value: bytes, revision: int, created: int, memo: Any = None) -> None:
        self.key = key
        self.value = value
        self.revision = revision
        """The revision of the write that made this value."""
        self.created = created
        """The revision of the write that created the key."""
        self.memo = memo

    def __repr__(self) -> str:
        return f"Entry({self.key!r}, {len(self.value)} bytes, revision={self.revision}, created={self.created})"


@dataclass(frozen=True, slots=True)
class Conflict:
    """A write that lost: `current` is what stands there instead (None: nothing does)."""

    current: Entry | None


class Change(msgspec.Struct, frozen=True):
    """One revision of the log. For a delete, `entry` has the last value and the revision of the delete."""

    type: Literal["put", "delete"]
    entry: Entry
    previous: Entry | None
    """What stood there before; None if the key was created."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, in key order."""

    entries: Sequence[Entry]
    revision: int
    """The revision that the whole listing shows."""
    more: bool
    remaining: int
    """How many entries follow this page."""


class Compacted(CorralError):
    """The revision asked for is older than what the store keeps; list again and watch from there."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"cannot serve revision {asked}: compacted, the oldest kept is {oldest}", "list again")
        self.asked = asked
        self.oldest = oldest


class Future(CorralError):
    """The revision asked for has not happened yet."""

    def __init__(self, asked: int, current: int) -> None:
        super().__init__(f"cannot serve revision {asked}: too large, the current one is {current}")
        self.asked = asked
        self.current = current


class Unavailable(CorralError):
    """The store does not answer: nobody knows whether the write was made; later it may be possible again."""


class Full(CorralError):
    """The disk is full: the write was not made and reads go on."""


class Broken(CorralError):
    """The disk fails: the store takes no more writes until it is opened anew; reads go on."""


Filing: TypeAlias = Callable[[Entry], str]
"""What an entry is filed under: a pure function of its value. It is asked once for each entry, however many list or
watch by it."""


class Topic(NamedTuple):
    """The entries that `filing` puts under `value`, and the changes of what is or was one of them."""

    filing: Filing
    value: str


class Watch(Protocol):
    """Changes after a revision, in order, without gaps, in batches of at least one.

    Iteration ends when the watch is closed. A reader that falls behind its bounded buffer gets `Compacted`.
    `progress()` is a revision up to which everything has been delivered (for bookmarks).
    """

    def __aiter__(self) -> AsyncIterator[Sequence[Change]]: ...

    def take(self) -> Sequence[Change]:
        """What has arrived and was not handed out yet, perhaps nothing, without waiting for more.

        Raises:
            Compacted: the reader fell behind.
        """

    def progress(self) -> int: ...

    def close(self) -> None: ...


class Store(Protocol):
    """About eight calls. All keys start with `/`; a prefix is any leading text of keys and should end with `/`."""

    @property
    def revision(self) -> int:
        """The revision of the latest acknowledged write (0 in an empty store)."""

    @property
    def compacted(self) -> int:
        """Revisions below this one cannot be listed or watched from."""

    @property
    def refused(self) -> float:
        """When a write last found no room on the disk, in monotonic seconds; minus infinity if none has."""

    async def create(self, key: str, value: bytes, memo: Any = None) -> Entry | Conflict:
        """Write a key that must not exist; `memo` is what readers may find in `Entry.memo`, or nothing."""

    async def update(self, key: str, value: bytes, revision: int, memo: Any = None) -> Entry | Conflict:
        """Write a key whose current value must be that of `revision`; `memo` as in `create`."""

    async def delete(self, key: str, revision: int) -> Entry | Conflict:
        """Remove a key whose current value must be that of `revision`; the entry has the last value and the
        revision of the delete."""

    def get(self, key: str) -> Entry | None:
        """The current value, linearizable with every acknowledged write of this process."""

    async def list(
        self, prefix: str, *, revision: int = 0, limit: int = 0, after: str = "", only: "Topic | None" = None
    ) -> Page:
        """Entries whose key starts with `prefix`, after the key `after`, as of `revision` (0: now); if `only` is given,
        those of that topic.

        Raises:
            Compacted, Future: `revision` cannot be served.
        """

    def current(self, prefix: str, only: "Topic | None" = None) -> tuple[Sequence[Entry], int]:
        """Everything (of that topic) under `prefix` now, and the revision it shows; the fast path of whole listings."""

    def watch(self, prefix: str, *, after: int, buffer: int = 10_000, only: "Topic | None" = None) -> Watch:
        """Changes with a revision above `after` under `prefix`, and if `only` is given, of that topic.

        Raises:
            Compacted: `after` is older than what is kept.
        """

    async def compact(self, revision: int) -> None:
        """Forget history below `revision`; current state stays."""

    async def close(self) -> None:
        """End the store; every acknowledged write is on disk."""
