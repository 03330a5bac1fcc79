"""Repairs of machines: the words that the controller, the agents and the command line share.

A Repair is one incident of one machine. Its fields have one writer each: `spec` is made when it is opened (`approved`
and `released` are a person's), `status.answer` is written by whoever performs a remedy (the machine's agent; a server
for `Remote`), `status.told` by whoever sends notices, and everything else by the controller.
"""

from typing import Final, Literal, TypeAlias

import msgspec

from corral.kinds.types import Obj, Resource

GROUP: Final = "corral.dev"
REPAIRS: Final = Resource(GROUP, "v1alpha1", "repairs", "Repair", False)
REPAIR_POLICIES: Final = Resource(GROUP, "v1alpha1", "repairpolicies", "RepairPolicy", False)
POLICY: Final = "default"
"""The name of the one RepairPolicy that counts."""

REPAIR_TAINT: Final = "corral.dev/repair"
"""NoSchedule, while a machine is in repair; its value is the Repair. Not `spec.unschedulable`: that is a person's."""
QUARANTINE_TAINT: Final = "corral.dev/quarantine"
"""NoSchedule, on a machine that was given up because its trouble came again and again."""
QUARANTINED: Final = "Quarantined"
"""The condition of a Node that says the same."""

Phase: TypeAlias = Literal["Suspect", "Cordoned", "Drained", "Repairing", "Probation", "Healthy", "Retired"]
FINAL: Final[frozenset[Phase]] = frozenset(("Healthy", "Retired"))
IN_REPAIR: Final[frozenset[Phase]] = frozenset(("Cordoned", "Drained", "Repairing", "Probation"))
"""Phases in which the machine takes no new pods."""
MOVES: Final[dict[Phase, frozenset[Phase]]] = {
    "Suspect": frozenset(("Cordoned", "Healthy", "Retired")),
    "Cordoned": frozenset(("Drained", "Repairing", "Probation", "Retired")),
    "Drained": frozenset(("Repairing", "Probation", "Retired")),
    "Repairing": frozenset(("Cordoned", "Probation", "Retired")),
    "Probation": frozenset(("Repairing", "Healthy", "Retired")),
    "Healthy": frozenset(),
    "Retired": frozenset(),
}
"""Which phase may follow which."""

Remedy: TypeAlias = Literal["RestartRuntime", "Prune", "RestartAgent", "Reboot", "Remote"]
AttemptState: TypeAlias = Literal["Waiting", "Requested", "Succeeded", "Failed", "TimedOut", "Skipped"]
AnswerState: TypeAlias = Literal["Running", "Succeeded", "Failed"]
Performer: TypeAlias = Literal["Agent", "Server"]


class Record(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A part of a Repair as it is written."""


class Seen(Record, frozen=True):
    """What a Node said of its trouble."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    since: str = ""


class Transition(Record, frozen=True):
    """One step of a Repair's life."""

    phase: Phase
    at: str
    message: str = ""


class Attempt(Record, frozen=True):
    """One remedy that was tried, or why it was not."""

    remedy: Remedy
    performer: Performer
    state: AttemptState
    at: str
    timeout_seconds: int = 0
    settle_seconds: int = 0
    """How long after it the trouble may take to go."""
    ended: str = ""
    message: str = ""


class Answer(Record, frozen=True):
    """What whoever performs the attempt number `attempt` says of it."""

    attempt: int
    state: AnswerState
    at: str
    message: str = ""
    boot_id: str = msgspec.field(default="", name="bootID")
    """Of the machine, when the attempt began."""


class Move(Record, frozen=True):
    """A pod that was on the machine when the trouble was seen, and where its work went."""

    namespace: str
    pod: str
    uid: str
    owner: str = ""
    """KIND/NAME of what manages it; empty if nothing does."""
    owner_uid: str = msgspec.field(default="", name="ownerUID")
    left: str = ""
    """When it was seen to be on its way out."""
    to_machine: str = ""
    to_pod: str = ""


class Notice(Record, frozen=True):
    """What a person must be told; each reason once."""

    reason: str
    at: str
    title: str
    text: str


class Told(Record, frozen=True):
    """Who was told of which notice; `target` is a key of the Secret that holds the addresses."""

    notice: str
    target: str
    at: str
    outcome: Literal["Sent", "Failed"]
    tries: int = 1
    message: str = ""


class RepairStatus(Record, frozen=True):
    """The life of a Repair so far."""

    phase: Phase = "Suspect"
    message: str = ""
    rule: str = ""
    """Whose remedies are tried; the last one, if the trouble is over."""
    quarantine: bool = False
    """The trouble came too often: it ends in quarantine."""
    drained: bool = False
    relapses: int = 0
    seen: tuple[Seen, ...] = ()
    transitions: tuple[Transition, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    moved: tuple[Move, ...] = ()
    notices: tuple[Notice, ...] = ()
    answer: Answer | None = None
    told: tuple[Told, ...] = ()


class Repair(msgspec.Struct, frozen=True):
    """A Repair, read once."""

    name: str
    machine: str
    machine_uid: str
    approved: bool
    released: bool
    created: str
    deleting: bool
    status: RepairStatus
    obj: Obj

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self.status.phase in FINAL

    @property
    def matters(self) -> bool:
        """Whether something is under way, or waits for a person."""
        return not self.is_final or (self.status.quarantine and not self.released)


def read(obj: Obj) -> Repair:
    """The view of a Repair.

    Raises:
        msgspec.ValidationError: somebody has written what the schema lets pass and we do not understand.
    """
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    status = msgspec.convert(obj.get("status") or {}, RepairStatus, strict=False)
    deleting = bool(metadata.get("deletionTimestamp"))
    return Repair(
        metadata["name"],
        str(spec.get("nodeName") or ""),
        str(spec.get("nodeUID") or ""),
        bool(spec.get("approved")),
        bool(spec.get("released")),
        str(metadata.get("creationTimestamp") or ""),
        deleting,
        status,
        obj,
    )


def written(status: RepairStatus) -> Obj:
    """A status as JSON data."""
    made: Obj = msgspec.to_builtins(status)
    # Defaults are left out, and a phase is what people look for.
    return {"phase": status.phase, **made}


def pending(repair: Repair, performer: Performer) -> int | None:
    """The number of the attempt that `performer` is to perform now; None if there is none."""
    attempts, answer = repair.status.attempts, repair.status.answer
    if repair.is_final or repair.deleting or not attempts:
        return None
    index, last = len(attempts) - 1, attempts[-1]
    if last.performer != performer or last.state != "Requested":
        return None
    done = answer is not None and answer.attempt == index and answer.state != "Running"
    return None if done else index
