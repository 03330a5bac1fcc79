"""Texts that several tables share: labels, selectors, containers, shortened lists, quantities."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from corral.base import quantities
from corral.kinds.kind import Column
from corral.kinds.tables.printer import Cell, spec, text
from corral.kinds.types import Obj

NONE = "<none>"
UNSET = "<unset>"
UNKNOWN = "<unknown>"


def labels_text(labels: Mapping[str, str] | None) -> str:
    """`a=b,c=d` in order of keys, or `<none>`."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def selector_text(selector: Obj | None) -> str:
    """A `metav1.LabelSelector` as kubectl writes it; empty for one that chooses everything."""
    terms = [(key, f"{key}={value}") for key, value in ((selector or {}).get("matchLabels") or {}).items()]
    for expression in (selector or {}).get("matchExpressions") or ():
        key, operator = expression.get("key", ""), expression.get("operator", "")
        values = ",".join(sorted(expression.get("values") or ()))
        written = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "DoesNotExist": f"!{key}"}
        terms.append((key, written.get(operator, key)))
    return ",".join(term for _, term in sorted(terms))


def selector_or_none(selector: Obj | None) -> str:
    """Like `selector_text`, but `<none>` for one that chooses everything."""
    return selector_text(selector) or NONE


def template_spec(obj: Obj) -> Obj:
    """The pod spec of a workload's template."""
    found: Obj = (spec(obj).get("template") or {}).get("spec") or {}
    return found


def container_columns(pod_spec: Any = template_spec, *, wide: bool = True) -> tuple[tuple[Column, Cell], ...]:
    """The columns Containers and Images of a workload, whose pod spec `pod_spec` finds."""

    def joined(field: str) -> Any:
        return lambda obj: ",".join(container.get(field, "") for container in pod_spec(obj).get("containers") or ())

    return text("Containers", joined("name"), wide=wide), text("Images", joined("image"), wide=wide)


def shortened(items: Sequence[str], total: int, shown: int = 3, empty: str = UNSET) -> str:
    """The first `shown` items, and how many of `total` are left out."""
    listed = ",".join(items[:shown])
    if total > shown:
        return f"{listed} + {total - shown} more..."
    return listed or empty


def quantity_text(value: Any) -> str:
    """A quantity in canonical form; `0` if there is none."""
    if value is None:
        return "0"
    try:
        return quantities.canonical(value)
    except ValueError:
        return str(value)


def flag(value: bool | None) -> str:
    """`True`, `False` or `<unset>`."""
    return UNSET if value is None else str(bool(value))


def condition_is_true(conditions: Iterable[Obj] | None, type_: str) -> bool:
    """Whether the first condition of that type says True."""
    found = next((condition for condition in conditions or () if condition.get("type") == type_), None)
    return found is not None and found.get("status") == "True"


__all__ = [
    "NONE",
    "UNKNOWN",
    "UNSET",
    "condition_is_true",
    "container_columns",
    "flag",
    "labels_text",
    "quantity_text",
    "selector_or_none",
    "selector_text",
    "shortened",
    "template_spec",
]
