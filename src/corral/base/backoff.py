"""Exponential back-off as a pure function of the attempt."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds: `initial * factor**attempt`, never above `maximum`."""

    initial: float
    maximum: float
    factor: float = 2.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait before retry number `attempt` (0 is the first retry)."""
        exponent = min(attempt, 64)
        return min(self.maximum, self.initial * self.factor**exponent)
