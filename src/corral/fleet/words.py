"""What a person is told of a repair. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from corral.kinds.repairs import Attempt, Move, Notice, Repair, RepairStatus

NEEDS_PERSON: Final = "NeedsPerson"
NEEDS_APPROVAL: Final = "NeedsApproval"
QUARANTINED: Final = "Quarantined"
HELD: Final = "HeldBack"
_TITLES: Final = {
    NEEDS_PERSON: "machine {} needs a person",
    NEEDS_APPROVAL: "the repair of machine {} waits for approval",
    QUARANTINED: "machine {} is in quarantine",
    HELD: "machine {} is not repaired: too many are in trouble at once",
}
_HELP: Final = {
    NEEDS_PERSON: "Nothing more is tried. It takes pods again by itself when its conditions are well for a while.",
    NEEDS_APPROVAL: "Go on with: corral repair approve {0}",
    QUARANTINED: "Let it back with: corral repair approve {0}\nOr forget it with: corral machine remove {1}",
    HELD: "Nothing is done about it as long as that is so: it may be the network.",
}
_MOST_LINES: Final = 40
_MOST_TEXT: Final = 8000
"""Characters; the schema takes twice as many."""


def notice(reason: str, repair: Repair, status: RepairStatus, now: str) -> Notice:
    """What to tell: what was seen, what was tried and what came of it, what has moved where."""
    lines = [status.message or f"Rule {status.rule}.", "", "Seen:", *_indented(seen_lines(status))]
    if status.attempts:
        lines += ["", "Tried:", *_indented(attempt_line(one) for one in status.attempts)]
    if status.moved:
        lines += ["", "Pods:", *_indented(move_lines(status.moved))]
    lines += ["", _HELP[reason].format(repair.name, repair.machine), f"All of it: corral repair show {repair.name}"]
    return Notice(reason, now, f"Corral: {_TITLES[reason].format(repair.machine)}", "\n".join(lines)[:_MOST_TEXT])


def seen_lines(status: RepairStatus) -> list[str]:
    """What the machine said."""
    return [
        f"{one.type}={one.status} since {one.since}: {one.reason}: {one.message}".rstrip(": ") for one in status.seen
    ]


def attempt_line(attempt: Attempt) -> str:
    """A remedy and what came of it."""
    said = f": {attempt.message}" if attempt.message else ""
    return f"{attempt.at}  {attempt.remedy}  {attempt.state}{said}"


def move_lines(moves: Sequence[Move]) -> list[str]:
    """Pods, and where their work runs now; the first of many."""
    lines = [f"{move.namespace}/{move.pod}  {fate(move)}" for move in moves]
    return lines if len(lines) <= _MOST_LINES else [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more"]


def fate(move: Move) -> str:
    """What became of a pod."""
    if not move.left:
        return "still there"
    if move.to_machine:
        return f"-> {move.to_pod} on {move.to_machine}"
    return "gone; nothing has taken its place yet" if move.owner else "gone; nothing starts it again"


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]
