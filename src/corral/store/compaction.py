"""When history is forgotten: a pure policy over counts and times."""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CompactionPolicy:
    """Which revisions stay: the newest `keep` always, older ones for `seconds`, never more than `most` in all.

    Five minutes is what the Kubernetes API server keeps in etcd; `keep` lets a quiet cell's watchers resume after a
    long sleep, `most` bounds memory when a busy cell writes thousands of revisions a second.
    """

    keep: int = 10_000
    seconds: float = 300.0
    most: int = 20_000
    step: int = 1_000
    """Compaction waits until this many revisions can go, and forgets at most this many at once."""


class CompactionClock:
    """Remembers when revisions were made, to about a second, and says how far history may be forgotten."""

    def __init__(self, policy: CompactionPolicy) -> None:
        self._policy = policy
        self._marks: deque[tuple[float, int]] = deque()
        self._aged = 0

    def note(self, revision: int, now: float) -> None:
        """`revision` was the latest at the monotonic time `now`."""
        if self._marks and now - self._marks[-1][0] < 1.0:
            self._marks[-1] = (self._marks[-1][0], revision)
        else:
            self._marks.append((now, revision))

    def target(self, revision: int, compacted: int, now: float) -> int:
        """The revision to compact to; `compacted` itself if nothing is due.

        `revision` is the store's latest revision, `compacted` the oldest it can still serve.
        """
        policy = self._policy
        spare = revision - policy.keep
        if spare - compacted < policy.step:
            return compacted
        while self._marks and now - self._marks[0][0] >= policy.seconds:
            self._aged = self._marks.popleft()[1]
        due = min(spare, max(self._aged, revision - policy.most))
        return min(due, compacted + policy.step) if due - compacted >= policy.step else compacted
