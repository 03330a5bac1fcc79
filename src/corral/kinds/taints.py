"""Taints of machines, tolerations of pods."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from corral.kinds.types import Obj

_KEEPS_AWAY = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Taint:
    """What keeps pods away from a machine. `effect` is NoSchedule, PreferNoSchedule or NoExecute."""

    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return f"{{{self.key}: {self.value}}}"


@dataclass(frozen=True, slots=True)
class Toleration:
    """What lets a pod onto a tainted machine; an empty `key` or `effect` matches every one."""

    key: str
    operator: str
    value: str
    effect: str
    seconds: int | None = field(default=None, compare=False)
    """How long it bears a taint that ends pods; None: for ever. What pods may go where does not depend on it."""

    def tolerates(self, taint: Taint) -> bool:
        """Whether `taint` does not keep a pod with this toleration away."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        if self.operator == "Exists":
            return True
        return bool(self.key) and self.value == taint.value


def read_taints(node: Obj) -> tuple[Taint, ...]:
    """The taints of `node`."""
    return tuple(
        Taint(item.get("key") or "", item.get("value") or "", item.get("effect") or "")
        for item in (node.get("spec") or {}).get("taints") or ()
    )


def read_tolerations(spec: Obj) -> tuple[Toleration, ...]:
    """The tolerations in a pod's spec."""
    return tuple(
        Toleration(
            item.get("key") or "",
            item.get("operator") or "Equal",
            item.get("value") or "",
            item.get("effect") or "",
            item.get("tolerationSeconds"),
        )
        for item in spec.get("tolerations") or ()
    )


def untolerated(tolerations: Iterable[Toleration], taints: Iterable[Taint]) -> Taint | None:
    """The first taint that keeps away a pod with these tolerations."""
    held = tuple(tolerations)
    return next(
        (
            taint
            for taint in taints
            if taint.effect in _KEEPS_AWAY and not any(toleration.tolerates(taint) for toleration in held)
        ),
        None,
    )
