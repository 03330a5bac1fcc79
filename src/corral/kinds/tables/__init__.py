"""`meta.k8s.io/v1` Tables: what kubectl prints, computed by the server.

Columns, words and their order are those of kubernetes/pkg/printers/internalversion, as of v1.36; one module a family of
kinds, each a mapping of printers.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal

from corral.kinds.kind import Column, Kind
from corral.kinds.tables import access, core, extension, machines, networks, pods, policies, storage, workloads
from corral.kinds.tables.custom import custom_printer
from corral.kinds.tables.durations import human_duration
from corral.kinds.tables.printer import NAME, Printer, Printers, printer
from corral.kinds.types import Obj

_FAMILIES: Final = (access, core, extension, machines, networks, pods, policies, storage, workloads)
_PRINTERS: Final[Printers] = {key: found for family in _FAMILIES for key, found in family.PRINTERS.items()}
_CREATED_AT: Final = (
    Column("Created At", type="date", description="When the object was created."),
    lambda obj, now: obj["metadata"].get("creationTimestamp"),
)
_DEFAULT: Final = printer(NAME, _CREATED_AT)


def table(
    kind: Kind,
    objs: Sequence[Obj],
    *,
    now: datetime,
    include: Literal["None", "Metadata", "Object"] = "Metadata",
    list_meta: Obj | None = None,
) -> Obj:
    """The Table of `objs`, one row each, in their order.

    `include` says what a row carries of its object: nothing, its metadata (as PartialObjectMetadata) or all of it.
    `list_meta` is the list's metadata (resourceVersion, continue, remainingItemCount); without it, a table of one
    object carries that object's resourceVersion.
    """
    chosen = _printer(kind)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_meta if list_meta is not None else _meta_of(objs),
        "columnDefinitions": [_definition(column) for column in chosen.columns],
        "rows": [_row(chosen, obj, now, include) for obj in objs],
    }


def _printer(kind: Kind) -> Printer:
    if kind.custom:
        return _custom(tuple(kind.columns))
    return _PRINTERS.get((kind.resource.group, kind.resource.plural), _DEFAULT)


@lru_cache(maxsize=256)
def _custom(columns: tuple[Column, ...]) -> Printer:
    return custom_printer(columns)


def _meta_of(objs: Sequence[Obj]) -> Obj:
    revision = objs[0]["metadata"].get("resourceVersion") if len(objs) == 1 else None
    return {"resourceVersion": revision} if revision else {}


def _definition(column: Column) -> Obj:
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    }


def _row(chosen: Printer, obj: Obj, now: datetime, include: str) -> Obj:
    row: Obj = {"cells": chosen.cells(obj, now)}
    conditions = chosen.conditions(obj)
    if conditions:
        row["conditions"] = list(conditions)
    row["object"] = _carried(obj, include)
    return row


def _carried(obj: Obj, include: str) -> Any:
    if include == "Object":
        return obj
    if include == "Metadata":
        return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
    return None


__all__ = ["human_duration", "table"]
