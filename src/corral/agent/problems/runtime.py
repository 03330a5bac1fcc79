"""RuntimeUnhealthy: containers cannot be made here. Twice in a row, so that a busy moment is not taken for it."""

import asyncio
from collections.abc import Sequence
from typing import Final

from corral.agent.problems.api import Finding, Sample, Source, persists
from corral.agent.runtime.api import Runtime
from corral.base.errors import CorralError

_ANSWER_SECONDS: Final = 15.0


def judge(samples: Sequence[Sample[str]], now: float) -> tuple[Finding, ...]:
    """By what was wrong each time (empty: nothing); trouble ends with the first answer that is good."""
    newest = samples[-1].value
    failed = persists(samples, bool, now, times=2, hold=RuntimeSource.keep)
    if failed is not None and newest:
        said = f"container runtime is down: {newest}"
        return (Finding("RuntimeUnhealthy", True, "RuntimeDoesNotAnswer", said, acute=True),)
    return (Finding("RuntimeUnhealthy", False, "RuntimeAnswers", "the container runtime answers", acute=bool(newest)),)


class RuntimeSource(Source[str]):
    """The machine's container runtime, which has been opened: it is not asked at once."""

    types = ("RuntimeUnhealthy",)
    period = 30.0
    keep = 120.0
    judge = staticmethod(judge)

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._opened = True

    async def read(self) -> str:
        if self._opened:
            self._opened = False
            return ""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._runtime.check()
        except TimeoutError:
            return f"no answer within {_ANSWER_SECONDS:.0f} s"
        except CorralError as error:
            return error.message
        except OSError as error:
            return str(error)
        return ""
