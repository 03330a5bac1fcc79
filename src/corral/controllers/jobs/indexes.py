"""Completion indexes: sets of numbers, on the wire as compressed ranges (`1,3-5,7`). Pure."""

from collections.abc import Iterable

from corral.kinds.types import Obj

ANNOTATION = "batch.kubernetes.io/job-completion-index"


def parse(text: str | None) -> frozenset[int]:
    """The set that `text` means; parts that make no sense are left out, because nothing can be done about them."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, dash, last = part.strip().partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            found.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(found)


def render(indexes: Iterable[int]) -> str:
    """The text that `parse` reads; three or more neighbours are a range, as in Kubernetes."""
    parts: list[str] = []
    run: list[int] = []
    for index in [*sorted(indexes), None]:
        if run and (index is None or index != run[-1] + 1):
            parts.append(_run(run[0], run[-1]))
            run = []
        if index is not None:
            run.append(index)
    return ",".join(parts)


def _run(first: int, last: int) -> str:
    if first == last:
        return str(first)
    return f"{first},{last}" if last == first + 1 else f"{first}-{last}"


def index_of(pod: Obj) -> int | None:
    """The completion index of a pod of an Indexed Job; None if it has none that makes sense."""
    text = (pod["metadata"].get("annotations") or {}).get(ANNOTATION, "")
    return int(text) if text.isdigit() else None
