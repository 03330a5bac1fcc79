"""The life of one Repair: one step at a time, decided purely.

    Suspect -> Cordoned -> Drained -> Repairing -> Probation -> Healthy or Retired

`step` says what the status should be now, which pods should be asked to leave, and when to look again. It makes at most
one move of `MOVES`; the shell writes it and asks again. How long something has lasted is measured by the shell on a
monotonic clock, so that neither a wrong clock nor a server that slept ends a wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from corral.fleet import words
from corral.fleet.moves import is_leaving
from corral.fleet.rules import REMEDIES, PlannedRemedy, Policy, Rule
from corral.kinds.repairs import FINAL, MOVES, Attempt, Phase, Repair, RepairStatus, Seen, Transition
from corral.kinds.types import Obj

RELAPSES: Final = 3
"""So often may the trouble come back during probation; then it has come too often."""
_RETRY_SECONDS: Final = 5.0
"""Between evictions that budgets refuse."""
_END_SECONDS: Final = 30.0
"""What pods get beyond their own grace, before they count as unable to end."""
_HELD_SECONDS: Final = 300.0
"""A machine that is held back for so long is told of."""
_TRANSITIONS: Final = 40
BY_A_PERSON: Final = "it waits: a person has cordoned the machine and takes care of it"
"""Why nothing is begun: whoever works on a machine does not want it rebooted, nor to be told of it."""


@dataclass(frozen=True, slots=True)
class Case:
    """A repair and all that its next step depends on."""

    repair: Repair
    there: bool
    """Whether the machine is still one of the cell."""
    rule: Rule | None
    """The rule that matches the machine now; None: all is well."""
    seen: tuple[Seen, ...]
    silent: bool
    seconds: float
    """For how long it is in its present stage."""
    leaving: Sequence[Obj] = ()
    """Pods that should move."""
    held: str = ""
    """Why nothing may be begun now."""
    elsewhere: bool = True
    """Whether another machine could take pods."""
    earlier: int = 0
    """Repairs of this machine that count towards quarantine."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do about a repair now."""

    status: RepairStatus
    evict: Sequence[Obj] = field(default=())
    look_again: float | None = None


def stage(status: RepairStatus) -> str:
    """What `Case.seconds` is measured from: a change of this text."""
    if status.phase == "Suspect":
        return f"Suspect {status.rule}"
    last = status.attempts[-1] if status.attempts else None
    return f"{status.phase} {len(status.attempts)} {last.state if last is not None else ''} {status.relapses}"


def step(case: Case, policy: Policy, now: str) -> Step:
    """What comes next for a repair that has not ended."""
    status = case.repair.status
    if case.rule is not None:
        status = replace(status, rule=case.rule.name, seen=_merged(status.seen, case.seen))
    match status.phase:
        case final if final in FINAL:
            return Step(status)
        case _ if not case.there:
            return Step(moved_on(status, "Retired", "the machine was removed from the cell", now))
        case "Suspect":
            return _suspect(case, status, policy, now)
        case "Cordoned":
            return _cordoned(case, status, policy, now)
        case "Drained":
            return _drained(case, status, now)
        case "Repairing":
            return _repairing(case, status, policy, now)
        case _:
            return _probation(case, status, policy, now)


def moved_on(status: RepairStatus, phase: Phase, message: str, now: str) -> RepairStatus:
    """The status in its next phase.

    Raises:
        ValueError: `phase` cannot follow; the message tells the life so far.
    """
    if phase not in MOVES[status.phase]:
        life = " -> ".join([*(one.phase for one in status.transitions), phase])
        raise ValueError(f"a repair cannot become {phase} from {status.phase}: {life}")
    transitions = (*status.transitions, Transition(phase, now, message))[-_TRANSITIONS:]
    return replace(status, phase=phase, message=message, transitions=transitions)


def _merged(before: tuple[Seen, ...], fresh: tuple[Seen, ...]) -> tuple[Seen, ...]:
    """What was seen in the whole life; of each condition the latest."""
    newest = {(one.type, one.status): one for one in (*before, *fresh)}
    return tuple(newest.values())[-32:]


def _told(case: Case, status: RepairStatus, reason: str, now: str) -> RepairStatus:
    """The status with a notice of that kind, once."""
    if any(notice.reason == reason for notice in status.notices):
        return status
    return replace(status, notices=(*status.notices, words.notice(reason, case.repair, status, now)))


def _suspect(case: Case, status: RepairStatus, policy: Policy, now: str) -> Step:
    if case.rule is None:
        return Step(moved_on(status, "Healthy", "it recovered by itself", now))
    left = case.rule.timeout_seconds - case.seconds
    if left > 0:
        words_ = f"{case.rule.condition} is {case.rule.status}; it is waited {case.rule.timeout_seconds} s for it to go"
        return Step(replace(status, message=words_), look_again=left)
    if case.held:
        status = replace(status, message=case.held)
        if case.held == BY_A_PERSON:
            return Step(status)
        wait = _HELD_SECONDS + case.rule.timeout_seconds - case.seconds
        return Step(status, look_again=wait) if wait > 0 else Step(_told(case, status, words.HELD, now))
    often = case.earlier >= policy.quarantine.repairs
    message = f"{case.rule.condition} was {case.rule.status} for {case.rule.timeout_seconds} s: no new pods"
    if often:
        message += f"; trouble came {case.earlier} times within {policy.quarantine.window_seconds} s: to quarantine"
    return Step(moved_on(replace(status, quarantine=often), "Cordoned", message, now))


def _cordoned(case: Case, status: RepairStatus, policy: Policy, now: str) -> Step:
    if case.rule is None and not status.quarantine:
        return Step(moved_on(status, "Probation", "the trouble is over", now))
    if case.held:
        return Step(replace(status, message=case.held))
    if not (status.quarantine or (case.rule is not None and case.rule.drain)):
        return _work(case, status, "its rule moves no pods", now)
    if not case.elsewhere:
        return _work(case, status, "pods stay: there is no other machine to take them", now)
    if not case.leaving:
        return Step(moved_on(replace(status, drained=True), "Drained", "its pods have left", now))
    asked = [pod for pod in case.leaving if not is_leaving(pod)]
    if not asked and case.seconds >= max(map(_patience, case.leaving)):
        # Their budgets have let them go, and a machine as sick as this one may be unable to end them.
        message = f"{len(case.leaving)} pods were let go and do not end"
        return Step(moved_on(replace(status, drained=True), "Drained", message, now))
    left = policy.drain_timeout_seconds - case.seconds
    names = ", ".join(sorted(pod["metadata"]["name"] for pod in case.leaving)[:5])
    if left <= 0:
        message = f"{len(case.leaving)} pods have not left within {policy.drain_timeout_seconds} s: {names}"
        return _work(case, status, message, now)
    # The taint `unreachable` moves the pods of a silent machine.
    status = replace(status, message=f"pods are to leave ({len(case.leaving)}): {names}")
    return Step(status, [] if case.silent else asked, min(left, _RETRY_SECONDS))


def _patience(pod: Obj) -> float:
    """Seconds that a pod that was asked to end may take."""
    grace = pod["metadata"].get("deletionGracePeriodSeconds")
    return _END_SECONDS + float(grace if grace is not None else 0)


def _drained(case: Case, status: RepairStatus, now: str) -> Step:
    if case.rule is None and not status.quarantine:
        return Step(moved_on(status, "Probation", "the trouble is over", now))
    return _work(case, status, "its pods have left", now)


def _work(case: Case, status: RepairStatus, message: str, now: str) -> Step:
    """To the remedies; or out, if there were too many already."""
    if not status.quarantine:
        return Step(moved_on(status, "Repairing", message, now))
    return _give_up(case, status, f"trouble came too often; {message}", now)


def _give_up(case: Case, status: RepairStatus, message: str, now: str) -> Step:
    status = moved_on(replace(status, quarantine=True), "Retired", message, now)
    return Step(_told(case, status, words.QUARANTINED, now))


def _repairing(case: Case, status: RepairStatus, policy: Policy, now: str) -> Step:
    last = status.attempts[-1] if status.attempts else None
    if last is not None and last.state == "Requested":
        return _await(case, status, last, now)
    if case.rule is None:
        return Step(moved_on(status, "Probation", "the trouble is over", now))
    if case.held:
        return Step(replace(status, message=case.held))
    if last is not None and last.state == "Waiting":
        return _ask(case, status, last, now)
    if last is not None and last.state == "Succeeded":
        left = last.settle_seconds - case.seconds
        if left > 0:
            message = f"{last.remedy} is done; the trouble has {last.settle_seconds} s to go"
            return Step(replace(status, message=message), look_again=left)
    tried = {attempt.remedy for attempt in status.attempts}
    remedy = next((one for one in case.rule.remedies if one.type not in tried), None)
    if remedy is None:
        message = "no remedy has helped" if tried else f"there is no remedy for {case.rule.condition}"
        return Step(_told(case, replace(status, message=f"{message}: a person is needed"), words.NEEDS_PERSON, now))
    if case.rule.drain and not status.drained and case.leaving and case.elsewhere and not _tried_to_drain(status):
        return Step(moved_on(status, "Cordoned", "what follows needs the machine empty", now))
    return Step(_begun(case, status, remedy, policy, now))


def _tried_to_drain(status: RepairStatus) -> bool:
    """Whether the pods were asked to leave before: what would not go once is left alone."""
    return status.phase == "Repairing" and any(
        one.phase == "Repairing" and "have not left" in one.message for one in status.transitions
    )


def _begun(case: Case, status: RepairStatus, remedy: PlannedRemedy, policy: Policy, now: str) -> RepairStatus:
    """The status with one more attempt: requested, waiting for a person, or why it is left out."""
    performer = REMEDIES[remedy.type].performer
    attempt = Attempt(remedy.type, performer, "Requested", now, remedy.timeout, remedy.settle)
    why = _why_not(case, status, remedy)
    if why:
        attempt = replace(attempt, state="Skipped", ended=now, message=why)
    elif remedy.type in policy.approvals and not case.repair.approved:
        attempt = replace(attempt, state="Waiting", message=f"waits for: corral repair approve {case.repair.name}")
    message = f"{remedy.type}: {why or REMEDIES[remedy.type].words}"
    return replace(status, attempts=(*status.attempts, attempt), message=message)


def _why_not(case: Case, status: RepairStatus, remedy: PlannedRemedy) -> str:
    if REMEDIES[remedy.type].performer == "Agent" and case.silent:
        return "the agent does not answer"
    kept = [pod for pod in case.leaving if not is_leaving(pod)]
    if remedy.type in ("Reboot", "Remote") and kept and not case.silent:
        return f"{len(kept)} pods may not leave the machine"
    return ""


def _ask(case: Case, status: RepairStatus, last: Attempt, now: str) -> Step:
    if not case.repair.approved:
        status = replace(status, message=f"{last.remedy} {last.message}")
        return Step(_told(case, status, words.NEEDS_APPROVAL, now))
    return Step(_ended(status, replace(last, state="Requested", at=now, message="approved")))


def _await(case: Case, status: RepairStatus, last: Attempt, now: str) -> Step:
    """What became of an attempt that was requested."""
    answer = status.answer
    mine = answer is not None and answer.attempt == len(status.attempts) - 1
    if answer is not None and mine and answer.state != "Running":
        return Step(_ended(status, replace(last, state=answer.state, ended=now, message=answer.message)))
    left = last.timeout_seconds - case.seconds
    if left > 0:
        running = f": {answer.message}" if answer is not None and mine and answer.message else ""
        return Step(replace(status, message=f"{last.remedy} is under way{running}"), look_again=left)
    message = f"no answer within {last.timeout_seconds} s"
    return Step(_ended(status, replace(last, state="TimedOut", ended=now, message=message)))


def _ended(status: RepairStatus, last: Attempt) -> RepairStatus:
    message = f"{last.remedy}: {last.state}" + (f": {last.message}" if last.message else "")
    return replace(status, attempts=(*status.attempts[:-1], last), message=message)


def _probation(case: Case, status: RepairStatus, policy: Policy, now: str) -> Step:
    if case.rule is not None:
        status = replace(status, relapses=status.relapses + 1)
        if status.relapses > RELAPSES:
            return _give_up(case, status, f"the trouble came back {status.relapses} times", now)
        return Step(moved_on(status, "Repairing", f"the trouble is back: {case.rule.condition}", now))
    left = policy.probation_seconds - case.seconds
    if left <= 0:
        return Step(moved_on(status, "Healthy", f"all was well for {policy.probation_seconds} s", now))
    return Step(replace(status, message=f"all must be well for {policy.probation_seconds} s"), look_again=left)
