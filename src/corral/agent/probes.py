"""Probing one running container: startup first, then liveness and readiness side by side.

Thresholds are counted purely in `Tally`; the tasks only wait and ask. Nothing runs for containers without probes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from corral.agent.actions import Actions, Outcome, Target
from corral.agent.podstate.model import Condemned, ProbeSeen
from corral.base.clock import Clock
from corral.kinds.types import Obj

KINDS = ("startupProbe", "livenessProbe", "readinessProbe")


@dataclass(slots=True)
class Tally:
    """Counts outcomes in a row against a probe's thresholds."""

    success_threshold: int
    failure_threshold: int
    streak: int = 0
    last: bool | None = None

    def note(self, ok: bool) -> bool | None:
        """The verdict after one more outcome; None while a threshold is not reached."""
        self.streak = self.streak + 1 if ok == self.last else 1
        self.last = ok
        return ok if self.streak >= (self.success_threshold if ok else self.failure_threshold) else None


def has_probes(container: Obj) -> bool:
    return any(container.get(kind) for kind in KINDS)


class ContainerProbes:
    """The probes of one run of a container. `run()` until cancelled, or until the container is condemned.

    Args:
        report: called when started or ready changes.
        condemn: called once, when liveness or startup has failed for good.
        tell: records an event (type, reason, message).
        before: what an earlier agent's probes said of this run; None for a run that has just begun.
    """

    def __init__(
        self,
        target: Target,
        actions: Actions,
        clock: Clock,
        *,
        report: Callable[[str, ProbeSeen], None],
        condemn: Callable[[str, Condemned], None],
        tell: Callable[[str, str, str], None],
        before: ProbeSeen | None = None,
    ) -> None:
        self._target = target
        self._container = target.container
        self._actions = actions
        self._clock = clock
        self._report = report
        self._condemn = condemn
        self._tell = tell
        self.seen = before or ProbeSeen(
            started=not self._container.get("startupProbe"),
            ready=not self._container.get("readinessProbe"),
        )

    async def run(self) -> None:
        """Probe."""
        startup = self._container.get("startupProbe")
        if startup and not self.seen.started and not await self._until_started(startup):
            return
        async with asyncio.TaskGroup() as group:
            if self._container.get("livenessProbe"):
                group.create_task(self._live(self._container["livenessProbe"]))
            if self._container.get("readinessProbe"):
                group.create_task(self._watch_readiness(self._container["readinessProbe"]))

    async def _until_started(self, probe: Obj) -> bool:
        tally = _tally(probe)
        await self._clock.sleep(float(probe.get("initialDelaySeconds") or 0))
        while True:
            verdict = tally.note((await self._ask("Startup", probe)).ok)
            if verdict is not None:
                break
            await self._clock.sleep(_period(probe))
        if verdict:
            self._change(started=True, ready=self.seen.ready)
            return True
        self._doom("startup", probe)
        return False

    async def _live(self, probe: Obj) -> None:
        tally = _tally(probe)
        await self._clock.sleep(float(probe.get("initialDelaySeconds") or 0))
        while tally.note((await self._ask("Liveness", probe)).ok) is not False:
            await self._clock.sleep(_period(probe))
        self._doom("liveness", probe)

    async def _watch_readiness(self, probe: Obj) -> None:
        tally = _tally(probe)
        await self._clock.sleep(float(probe.get("initialDelaySeconds") or 0))
        while True:
            verdict = tally.note((await self._ask("Readiness", probe)).ok)
            if verdict is not None and verdict != self.seen.ready:
                self._change(started=True, ready=verdict)
            await self._clock.sleep(_period(probe))

    async def _ask(self, kind: str, probe: Obj) -> Outcome:
        outcome = await self._actions.perform(probe, self._target, float(probe.get("timeoutSeconds") or 1))
        if not outcome.ok:
            how = "errored" if outcome.broken else "failed"
            self._tell("Warning", "Unhealthy", f"{kind} probe {how}: {outcome.message}")
        return outcome

    def _change(self, *, started: bool, ready: bool) -> None:
        self.seen = ProbeSeen(started, ready)
        self._report(self._target.container_id, self.seen)

    def _doom(self, kind: str, probe: Obj) -> None:
        message = f"Container {self._container['name']} failed {kind} probe, will be restarted"
        grace = probe.get("terminationGracePeriodSeconds")
        self._condemn(self._target.container_id, Condemned(message, None if grace is None else int(grace)))


def _tally(probe: Obj) -> Tally:
    return Tally(int(probe.get("successThreshold") or 1), int(probe.get("failureThreshold") or 3))


def _period(probe: Obj) -> float:
    return float(probe.get("periodSeconds") or 10)
