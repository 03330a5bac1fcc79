"""Tables of custom resources: `additionalPrinterColumns`, read through JSONPath.

Conversions as in apiextensions-apiserver's table convertor: a value that does not fit its column is left out.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from corral.kinds import fields
from corral.kinds.kind import Column
from corral.kinds.tables.durations import since
from corral.kinds.tables.printer import AGE, NAME, Cell, Printer, printer
from corral.kinds.types import Obj


def custom_printer(columns: Sequence[Column]) -> Printer:
    """The printer for a CRD version's columns; without any, Name and Age."""
    extra = [(column, _cell(column)) for column in columns]
    return printer(NAME, *(extra or [AGE]))


def _cell(column: Column) -> Cell:
    select = fields.compile_json_path(column.path)

    def cell(obj: Obj, now: datetime) -> Any:
        value = next(iter(select(obj)), None)
        return None if value is None else _converted(column.type, value, now)

    return cell


def _converted(type_: str, value: Any, now: datetime) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if type_ == "string":
        return _text(value)
    if type_ == "integer":
        return int(value) if is_number else None
    if type_ == "number":
        return float(value) if is_number else None
    if type_ == "boolean":
        return value if isinstance(value, bool) else None
    if type_ == "date":
        return since(value, now) if isinstance(value, str) else None
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
