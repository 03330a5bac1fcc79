"""Sources are read at their own pace; what changes is told once, what cannot be read is said to be unknown."""

from collections.abc import Sequence

import pytest

from corral.agent.problems.api import Finding, Sample, Source
from corral.agent.problems.watch import ProblemWatch
from corral.testing.clock import FakeClock


class Gauge(Source[int]):
    """A number that a test sets; more than 9 is trouble."""

    keep = 60.0

    def __init__(self, period: float = 10.0, type_: str = "GaugeHigh") -> None:
        self.types = (type_,)
        self.period = period
        self.value = 0
        self.error: Exception | None = None
        self.seen: list[float] = []
        self.closed = False

    async def read(self) -> int:
        if self.error is not None:
            raise self.error
        return self.value

    def judge(self, samples: Sequence[Sample[int]], now: float) -> Sequence[Finding]:  # type: ignore[override]
        self.seen = [sample.at for sample in samples]
        high = samples[-1].value > 9
        return (Finding(self.types[0], high, "High" if high else "Low", f"it is {samples[-1].value}"),)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def test_changes_are_told_and_nothing_else(clock: FakeClock) -> None:
    gauge, told = Gauge(), []
    watch = ProblemWatch([gauge], clock, lambda before, now: told.append((before and before.trouble, now.trouble)))
    await watch.start()
    assert told == [(None, False)]
    await clock.advance(100)
    gauge.value = 10
    await clock.advance(30)
    gauge.value = 3
    await clock.advance(10)
    await watch.close()
    assert told == [(None, False), (False, True), (True, False)]
    assert gauge.closed


async def test_figures_in_a_message_do_not_change_it_for_a_while(clock: FakeClock) -> None:
    gauge = Gauge()
    watch = ProblemWatch([gauge], clock, lambda before, now: None)
    await watch.start()
    said = []
    for gauge.value in (10, 11, 12):
        await clock.advance(100)
        said.append(watch.findings[0].message)
    gauge.value = 13
    await clock.advance(200)
    assert (said, watch.findings[0].message) == (["it is 10"] * 3, "it is 13")
    await watch.close()


async def test_samples_that_are_too_old_do_not_count(clock: FakeClock) -> None:
    gauge = Gauge()
    watch = ProblemWatch([gauge], clock, lambda before, now: None)
    await watch.start()
    await clock.advance(200)
    assert gauge.seen == [140, 150, 160, 170, 180, 190, 200]
    await watch.close()


async def test_what_cannot_be_read_is_unknown_and_the_others_go_on(clock: FakeClock) -> None:
    broken, well = Gauge(type_="Broken"), Gauge(period=5.0)
    broken.error = PermissionError(1, "Operation not permitted")
    watch = ProblemWatch([broken, well], clock, lambda before, now: None)
    await watch.start()
    await clock.advance(20)
    assert len(well.seen) == 5
    assert watch.finding("Broken") == Finding("Broken", None, "CannotTell", "[Errno 1] Operation not permitted")
    broken.error = None
    await clock.advance(10)
    assert watch.finding("Broken") == Finding("Broken", False, "Low", "it is 0")
    assert watch.finding("Other") is None
    await watch.close()


async def test_a_source_that_hangs_holds_nobody_up(clock: FakeClock) -> None:
    class Stuck(Gauge):
        async def read(self) -> int:
            await clock.sleep(1e9)
            return 0

    stuck, well = Stuck(), Gauge()
    watch = ProblemWatch([stuck, well], clock, lambda before, now: None)
    await watch.start(patience=0.01)
    assert well.seen == [0.0]
    await watch.close()
    assert stuck.closed
