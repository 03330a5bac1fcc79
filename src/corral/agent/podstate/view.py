"""One container of a pod, seen from everything that is known: spec, runtime, last status.

The runtime's record counts most. Where it is gone (the sandbox was lost and removed, a reboot), the last status stands
in for it, so that restart counts go on and what succeeded stays succeeded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from corral.agent.podstate.model import Note, Observed
from corral.agent.runtime.api import Container, ContainerState
from corral.base.backoff import Backoff
from corral.base.clock import parse_rfc3339, rfc3339
from corral.kinds.types import Obj

CRASH_BACKOFF = Backoff(initial=10, maximum=300)
"""Kubernetes' CrashLoopBackOff: 10 s, doubling to 5 min; the first restart is immediate."""
QUIET = timedelta(minutes=10)
"""A container that ran this long starts its back-off anew."""
START_ERROR_CODE = 128
LOST_CODE = 137

Role = Literal["init", "sidecar", "main", "ephemeral"]


@dataclass(frozen=True, slots=True)
class Past:
    """How the newest ended run of a container ended."""

    exit_code: int
    reason: str
    message: str
    started: datetime | None
    finished: datetime | None
    container_id: str
    sandbox_id: str

    def terminated(self) -> Obj:
        """As a `state.terminated` of the API."""
        state: Obj = {"exitCode": self.exit_code, "reason": self.reason}
        if self.message:
            state["message"] = self.message
        state["startedAt"] = rfc3339(self.started) if self.started else None
        state["finishedAt"] = rfc3339(self.finished) if self.finished else None
        if self.container_id:
            state["containerID"] = container_url(self.container_id)
        return state


@dataclass(frozen=True, slots=True)
class View:
    """A container of the spec and what became of it."""

    spec: Obj
    role: Role
    policy: str
    """The effective restart policy."""
    live: Container | None
    """The instance that runs, or that was created and may run."""
    past: Past | None
    earlier: Past | None
    """The ended run before `past`."""
    attempts: int
    """The number of the newest attempt; -1 if there was none."""
    streak: int
    old: Obj
    """The container's status as last reported."""

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def running(self) -> bool:
        return self.live is not None and self.live.state is ContainerState.RUNNING

    @property
    def next_attempt(self) -> int:
        return self.attempts + 1

    def wants_restart(self) -> bool:
        """Whether an ended container is to run again; True for one that never ran."""
        past = self.past
        if past is None:
            return True
        if self.role == "ephemeral":
            return False
        if self.role == "sidecar":
            return True
        verdict = _rule_verdict(self.spec, past.exit_code)
        if verdict is not None:
            return verdict
        if self.role == "init":
            return past.exit_code != 0 and self.policy != "Never"
        return self.policy == "Always" or (self.policy == "OnFailure" and past.exit_code != 0)

    def next_streak(self) -> int:
        """The streak that the next start makes."""
        return 0 if self.past is None else self._counted() + 1

    def due(self) -> datetime | None:
        """When the next start may be; None is at once."""
        past = self.past
        streak = self._counted()
        if past is None or past.finished is None or streak == 0:
            return None
        return past.finished + timedelta(seconds=CRASH_BACKOFF.delay(streak - 1))

    def delay(self) -> int:
        """Seconds of the current back-off."""
        return int(CRASH_BACKOFF.delay(self._counted() - 1))

    def _counted(self) -> int:
        past = self.past
        if past and past.started and past.finished and past.finished - past.started >= QUIET:
            return 0
        return self.streak


def container_url(container_id: str) -> str:
    """`containerID` as the API shows it."""
    return f"corral://{container_id}"


def _rule_verdict(spec: Obj, exit_code: int) -> bool | None:
    """`restartPolicyRules`: the first rule whose exit codes match decides (its only action is Restart)."""
    for rule in spec.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        values = codes.get("values") or ()
        if (exit_code in values) == (codes.get("operator") == "In"):
            return True
    return None


def views(pod: Obj, seen: Observed, previous: Obj) -> list[View]:
    """All containers of the pod: init and sidecar containers in order, then main ones, then ephemeral ones."""
    old = _old_statuses(previous)
    by_name: dict[str, list[Container]] = {}
    for container in seen.containers:
        by_name.setdefault(container.name, []).append(container)
    pod_policy = pod["spec"].get("restartPolicy") or "Always"
    return [
        _view(spec, role, pod_policy, by_name.get(spec["name"], []), seen, old.get(spec["name"], {}))
        for spec, role in _specs(pod)
    ]


def _specs(pod: Obj) -> Iterator[tuple[Obj, Role]]:
    spec = pod["spec"]
    for container in spec.get("initContainers") or ():
        yield container, "sidecar" if container.get("restartPolicy") == "Always" else "init"
    for container in spec.get("containers") or ():
        yield container, "main"
    for container in spec.get("ephemeralContainers") or ():
        yield container, "ephemeral"


def _old_statuses(previous: Obj) -> Mapping[str, Obj]:
    found: dict[str, Obj] = {}
    for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for status in previous.get(field) or ():
            found[status["name"]] = status
    return found


def _view(spec: Obj, role: Role, pod_policy: str, instances: list[Container], seen: Observed, old: Obj) -> View:
    instances = sorted(instances, key=lambda container: container.attempt)
    live = next((found for found in reversed(instances) if found.state is not ContainerState.EXITED), None)
    ended = [found for found in instances if found.state is ContainerState.EXITED]
    history = [_past_of(found, seen.notes.get(found.id, Note())) for found in ended]
    if not ended and old:
        known = {found.id for found in instances}
        history = [past for past in _history_of(old) if past.container_id not in known]
    attempts = max((found.attempt for found in instances), default=-1)
    if history or live:
        attempts = max(attempts, int(old.get("restartCount") or 0))
    streak = seen.streaks.get(spec["name"], max(attempts, 0))
    past = history[-1] if history else None
    earlier = history[-2] if len(history) > 1 else _last_of(old, past)
    policy = spec.get("restartPolicy") or ("Never" if role == "ephemeral" else pod_policy)
    return View(spec, role, policy, live, past, earlier, attempts, streak, old)


def _past_of(container: Container, note: Note) -> Past:
    exit_code = LOST_CODE if container.exit_code is None else container.exit_code
    reason = note.reason or _reason(container, exit_code)
    message = note.message or container.message
    return Past(exit_code, reason, message, container.started, container.finished, container.id, container.sandbox_id)


def _reason(container: Container, exit_code: int) -> str:
    if container.exit_code is None:
        return "ContainerStatusUnknown"
    if container.oom_killed:
        return "OOMKilled"
    return "Completed" if exit_code == 0 else "Error"


def _history_of(old: Obj) -> list[Past]:
    """Ended runs as the last status tells them, oldest first."""
    history = []
    last = (old.get("lastState") or {}).get("terminated")
    if last:
        history.append(_past_from(last))
    state = old.get("state") or {}
    if state.get("terminated"):
        history.append(_past_from(state["terminated"]))
    elif state.get("running"):
        lost = {
            "exitCode": LOST_CODE,
            "reason": "ContainerStatusUnknown",
            "message": "The container could not be located when the pod's sandbox was found to be gone",
            "startedAt": state["running"].get("startedAt"),
            "containerID": old.get("containerID") or "",
        }
        history.append(_past_from(lost))
    return history


def _last_of(old: Obj, past: Past | None) -> Past | None:
    """The reported last run, unless it is `past` itself."""
    last = (old.get("lastState") or {}).get("terminated")
    if not last:
        state = (old.get("state") or {}).get("terminated")
        last = state or None
    if not last:
        return None
    found = _past_from(last)
    return None if past and found.container_id == past.container_id else found


def _past_from(terminated: Obj) -> Past:
    return Past(
        exit_code=int(terminated.get("exitCode") or 0),
        reason=terminated.get("reason") or "",
        message=terminated.get("message") or "",
        started=_moment(terminated.get("startedAt")),
        finished=_moment(terminated.get("finishedAt")),
        container_id=(terminated.get("containerID") or "").rpartition("//")[2],
        sandbox_id="",
    )


def _moment(text: str | None) -> datetime | None:
    return parse_rfc3339(text) if text else None


def is_started(view: View, seen: Observed) -> bool:
    """Running, its postStart hook and its startup probe done."""
    live = view.live
    if live is None or live.state is not ContainerState.RUNNING or live.id in seen.hooks:
        return False
    probe = seen.probes.get(live.id)
    return probe.started if probe is not None else not view.spec.get("startupProbe")
