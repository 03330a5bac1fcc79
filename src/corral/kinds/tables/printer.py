"""What a kind's table is made of: columns, each with the function that computes its cell."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from corral.kinds.kind import Column
from corral.kinds.tables.durations import age
from corral.kinds.types import Obj

Cell: TypeAlias = Callable[[Obj, datetime], Any]
"""An object and the time now to the cell's JSON value."""


def _no_conditions(obj: Obj) -> Sequence[Obj]:
    return ()


@dataclass(frozen=True, slots=True)
class Printer:
    """How objects of one kind become rows."""

    columns: tuple[Column, ...]
    cells: Callable[[Obj, datetime], list[Any]]
    conditions: Callable[[Obj], Sequence[Obj]] = _no_conditions
    """Row conditions; kubectl hides `Completed` rows on request."""


Printers: TypeAlias = Mapping[tuple[str, str], Printer]
"""Printers by group and plural."""


def name(obj: Obj, now: datetime) -> str:
    return str(obj["metadata"]["name"])


NAME = (Column("Name", format="name", description="Name of the object, unique within its namespace."), name)
AGE = (Column("Age", description="Time since the object was created."), age)


def printer(*columns: tuple[Column, Cell]) -> Printer:
    """A printer whose cells are computed one by one."""
    functions = tuple(cell for _, cell in columns)
    return Printer(tuple(column for column, _ in columns), lambda obj, now: [cell(obj, now) for cell in functions])


def text(title: str, cell: Callable[[Obj], Any], *, type: str = "string", wide: bool = False) -> tuple[Column, Cell]:
    """A column whose cells do not depend on the time; `wide` ones are shown with `-o wide` only."""
    return Column(title, type=type, priority=1 if wide else 0), lambda obj, now: cell(obj)


def number(title: str, cell: Callable[[Obj], Any], *, wide: bool = False) -> tuple[Column, Cell]:
    """A column of integers."""
    return text(title, cell, type="integer", wide=wide)


def timed(title: str, cell: Cell, *, wide: bool = False) -> tuple[Column, Cell]:
    """A text column whose cells depend on the time."""
    return Column(title, priority=1 if wide else 0), cell


def spec(obj: Obj) -> Obj:
    """The object's spec, or nothing."""
    return obj.get("spec") or {}


def status(obj: Obj) -> Obj:
    """The object's status, or nothing."""
    return obj.get("status") or {}


def of_spec(field: str, absent: Any = "") -> Callable[[Obj], Any]:
    """Reads `spec.field`."""

    def read(obj: Obj) -> Any:
        value = spec(obj).get(field)
        return absent if value is None else value

    return read


def of_status(field: str, absent: Any = 0) -> Callable[[Obj], Any]:
    """Reads `status.field`."""

    def read(obj: Obj) -> Any:
        value = status(obj).get(field)
        return absent if value is None else value

    return read
