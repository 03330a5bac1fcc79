"""When this machine must no longer run what the server may have started elsewhere. Pure; monotonic seconds only.

The fence shuts when the last renewal that succeeded was *sent* longer ago than was promised: whatever the server saw of
it, it saw later. What counts for safety is never taken for better than it is: a shorter promise binds from when it is
sent, a longer one, or none, from when it is acknowledged.
"""

from corral.kinds.health import Terms


class Fence:
    """One machine's fence. It begins open, and unarmed: without a promise it never shuts by itself."""

    def __init__(self) -> None:
        self.shut = False
        self._renewed: float | None = None
        self._after: float | None = None
        self._offered: float | None = None

    def offer(self, terms: Terms | None) -> None:
        """A renewal is about to be sent that promises `terms`."""
        self._offered = terms.fence if terms is not None else None
        if self._offered is not None:
            self._after = self._offered if self._after is None else min(self._after, self._offered)

    def renewed(self, sent: float, *, fenced: bool) -> None:
        """The renewal sent at `sent` succeeded; `fenced`: the server says that this machine counts as fenced."""
        if fenced:
            self.shut = True
            return
        self._renewed = sent
        self._after = self._offered

    def excused(self, sent: float) -> None:
        """What was sent at `sent` found the only server not running."""
        self._renewed = sent

    def left(self, now: float) -> float | None:
        """Seconds until the fence shuts, None for never. It has nothing to count from before the first renewal; what
        an earlier agent promised, its watchman keeps."""
        return None if self._after is None or self._renewed is None else self._renewed + self._after - now

    def check(self, now: float) -> bool:
        """Whether the fence is shut; it shuts if it is time."""
        left = self.left(now)
        self.shut = self.shut or (left is not None and left <= 0)
        return self.shut

    def open(self, now: float) -> bool:
        """Open it, unless it is time to shut it; whether it is open. Only for who has read after a renewal what the
        server still wants here."""
        left = self.left(now)
        self.shut = left is not None and left <= 0
        return not self.shut
