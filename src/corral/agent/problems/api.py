"""What a source of findings is. Pure.

A source reads something of the machine now and then, and judges the readings of a while: the judgement is a function of
samples and the time, so what it says of a sequence is tested without a machine. Hysteresis is part of it: trouble is
said when readings were bad often enough in a row (`persists`), and lasts a while longer than they do, so that a
condition does not flap.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample(Generic[T]):
    """One reading, and when it was made, in monotonic seconds."""

    at: float
    value: T


@dataclass(frozen=True, slots=True)
class Finding:
    """What one condition of the Node is to say; `trouble` None is "cannot be told"."""

    type: str
    trouble: bool | None
    reason: str
    message: str
    acute: bool = False
    """It is so by the newest reading, not only a while ago."""


class Source(ABC, Generic[T]):
    """Something that may be wrong with a machine; implementations inherit."""

    types: Sequence[str]
    """The conditions that it speaks of."""
    period: float
    """Seconds between readings."""
    keep: float
    """Seconds for which readings count."""

    @abstractmethod
    async def read(self) -> T:
        """Look at the machine.

        Raises:
            CorralError, OSError, ValueError: it cannot be told.
        """

    @staticmethod
    @abstractmethod
    def judge(samples: Sequence[Sample[T]], now: float) -> Sequence[Finding]:
        """What the samples (oldest first, at least one) of the last `keep` seconds mean."""

    def close(self) -> None:
        """Give back what it holds; most hold nothing."""
        return


def persists(
    samples: Sequence[Sample[T]], bad: Callable[[T], bool], now: float, *, times: int = 1, hold: float
) -> Sample[T] | None:
    """The newest sample that ended `times` bad ones in a row, if that is at most `hold` seconds ago."""
    found, row = None, 0
    for sample in samples:
        row = row + 1 if bad(sample.value) else 0
        if row >= times:
            found = sample
    return found if found is not None and now - found.at <= hold else None
