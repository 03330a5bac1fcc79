"""A server that starts while etcd's members change places waits for them, and for nothing else."""

import asyncio

import pytest

from corral.app.server import insist
from corral.kinds.status import StatusError
from corral.testing.clock import FakeClock


class Step:
    """Fails with `code` so many times."""

    def __init__(self, code: int, times: int) -> None:
        self.code, self.left, self.tried = code, times, 0

    async def __call__(self) -> None:
        self.tried += 1
        self.left -= 1
        if self.left >= 0:
            raise StatusError(self.code, "ServiceUnavailable", "no")


async def test_what_the_store_does_not_take_yet_is_tried_again() -> None:
    clock, step = FakeClock(), Step(503, 3)
    trying = asyncio.create_task(insist(step, clock))
    await clock.advance(1)
    await trying
    assert step.tried == 4


@pytest.mark.parametrize(("code", "seconds", "tried"), [(403, 0, 1), (503, 60, 77)])
async def test_what_is_refused_or_never_taken_is_an_error(code: int, seconds: float, tried: int) -> None:
    clock, step = FakeClock(), Step(code, 1000)
    trying = asyncio.create_task(insist(step, clock))
    await clock.advance(seconds)
    with pytest.raises(StatusError):
        await trying
    assert abs(step.tried - tried) <= 2
