"""Looking after all sources: each is read at its own pace, and what has changed is told at once."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from corral.agent.problems.api import Finding, Sample, Source
from corral.base.clock import Clock
from corral.base.errors import CorralError

logger = logging.getLogger(__name__)

_MOST_SAMPLES: Final = 1000
_FIRST_SECONDS: Final = 0.5
_SAME_SECONDS: Final = 300.0
"""How long a message is kept while its condition stays: figures in it would have the Node written at each look."""

Changed = Callable[[Finding | None, Finding], None]
"""Told of what a condition said before (None: nothing), and says now."""


class ProblemWatch:
    """Reads `sources` until closed; `findings` is what they say now."""

    def __init__(self, sources: Sequence[Source[Any]], clock: Clock, changed: Changed) -> None:
        self._sources = sources
        self._clock = clock
        self._changed = changed
        self._said: dict[str, tuple[float, Finding]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def findings(self) -> list[Finding]:
        return [finding for _, finding in self._said.values()]

    def finding(self, type_: str) -> Finding | None:
        """What a condition says, if anything was read yet."""
        said = self._said.get(type_)
        return said[1] if said is not None else None

    async def start(self, patience: float = _FIRST_SECONDS) -> None:
        """Begin, and return when every source was read once, or `patience` seconds have passed."""
        first = [asyncio.Event() for _ in self._sources]
        self._tasks = [
            asyncio.create_task(self._follow(source, event), name=f"looking for {', '.join(source.types)}")
            for source, event in zip(self._sources, first, strict=True)
        ]
        waiting = asyncio.gather(*(event.wait() for event in first))
        try:
            await asyncio.wait_for(waiting, patience)
        except TimeoutError:
            logger.info("some of what may be wrong with this machine takes its time to be looked at")

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for source in self._sources:
            source.close()

    async def _follow(self, source: Source[Any], first: asyncio.Event) -> None:
        samples: list[Sample[Any]] = []
        while True:
            await self._look(source, samples)
            first.set()
            await self._clock.sleep(source.period)

    async def _look(self, source: Source[Any], samples: list[Sample[Any]]) -> None:
        """Read once, and say what follows."""
        try:
            value = await source.read()
        except (CorralError, OSError, ValueError) as error:
            said = error.message if isinstance(error, CorralError) else str(error) or type(error).__name__
            found: Sequence[Finding] = [Finding(type_, None, "CannotTell", said) for type_ in source.types]
        else:
            now = self._clock.monotonic()
            samples.append(Sample(now, value))
            # The newest is always kept; what is too old is not.
            samples[:] = [sample for sample in samples[-_MOST_SAMPLES:] if now - sample.at <= source.keep]
            found = source.judge(samples, now)
        for finding in found:
            self._say(finding)

    def _say(self, finding: Finding) -> None:
        now = self._clock.monotonic()
        since, before = self._said.get(finding.type, (now, None))
        if before is not None and (before.trouble, before.reason) == (finding.trouble, finding.reason):
            if now - since < _SAME_SECONDS:
                message = before.message
                finding = Finding(finding.type, finding.trouble, finding.reason, message, finding.acute)
            else:
                since = now
            self._said[finding.type] = (since, finding)
            return
        self._said[finding.type] = (now, finding)
        self._changed(before, finding)
