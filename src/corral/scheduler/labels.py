"""Machine labels as columns of small integers, so that a requirement is judged once per distinct value."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from corral.kinds.selectors import Requirement

_ABSENT = 0


class _Column:
    """One label key: each row has the number of its value; 0 means that the label is not there."""

    def __init__(self, rows: int) -> None:
        self.values: list[str] = [""]
        self.numbers: dict[str, int] = {}
        self.cells = np.zeros(rows, dtype=np.int32)
        self.sorted: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None
        """The rows by their numbers, and where those of each number begin; None if that is to be worked out anew."""

    def set(self, row: int, value: str) -> None:
        number = self.numbers.get(value)
        if number is None:
            number = self.numbers[value] = len(self.values)
            self.values.append(value)
        self.cells[row] = number
        self.sorted = None

    def copy(self) -> "_Column":
        other = _Column(0)
        other.values, other.numbers, other.cells = self.values.copy(), self.numbers.copy(), self.cells.copy()
        return other


class LabelColumns:
    """The labels of all rows."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._columns: dict[str, _Column] = {}

    def copy(self) -> "LabelColumns":
        """Another one with the same labels."""
        other = LabelColumns(self._rows)
        other._columns = {key: column.copy() for key, column in self._columns.items()}
        return other

    def resize(self, rows: int) -> None:
        """Make room for more rows, without labels."""
        for column in self._columns.values():
            column.cells = np.concatenate([column.cells, np.zeros(rows - self._rows, dtype=np.int32)])
            column.sorted = None
        self._rows = rows

    def set(self, row: int, labels: Mapping[str, str]) -> None:
        """Give `row` exactly these labels."""
        for key, column in self._columns.items():
            if key not in labels:
                column.cells[row] = _ABSENT
                column.sorted = None
        for key, value in labels.items():
            if key not in self._columns:
                self._columns[key] = _Column(self._rows)
            self._columns[key].set(row, value)

    def cells(self, key: str) -> tuple[NDArray[np.int32], int]:
        """For each row the number of its value of the label `key` (0: it has none), and how many numbers there are."""
        column = self._columns.get(key)
        return (np.zeros(self._rows, dtype=np.int32), 1) if column is None else (column.cells, len(column.values))

    def keys(self, rows: NDArray[np.bool_]) -> list[str]:
        """The labels that any of `rows` has."""
        return [key for key, column in self._columns.items() if column.cells[rows].any()]

    def values(self, key: str, rows: NDArray[np.bool_]) -> frozenset[str]:
        """The values of the label `key` that any of `rows` has."""
        column = self._columns.get(key)
        if column is None:
            return frozenset()
        return frozenset(column.values[number] for number in np.unique(column.cells[rows]) if number != _ABSENT)

    def numbers(self, key: str, missing: float = math.nan) -> NDArray[np.float64]:
        """For each row the value of the label `key` as a number; `missing` where there is none, or none that is one."""
        column = self._columns.get(key)
        if column is None:
            return np.full(self._rows, missing)
        return np.array([missing, *(_number(text, missing) for text in column.values[1:])])[column.cells]

    def rows(self, key: str, value: str) -> NDArray[np.intp]:
        """The rows that have the label `key` with `value`."""
        column = self._columns.get(key)
        number = column.numbers.get(value) if column is not None else None
        if column is None or number is None:
            return np.zeros(0, dtype=np.intp)
        if column.sorted is None:
            order = np.argsort(column.cells, kind="stable")
            column.sorted = order, np.searchsorted(column.cells[order], np.arange(len(column.values) + 1))
        order, begins = column.sorted
        return order[begins[number] : begins[number + 1]]

    def matches(self, requirement: Requirement) -> NDArray[np.bool_]:
        """Which rows fulfil `requirement`."""
        column = self._columns.get(requirement.key)
        if column is None:
            return np.full(self._rows, requirement.matches({}), dtype=np.bool_)
        if requirement.operator in ("In", "NotIn"):
            table = np.full(len(column.values), requirement.operator == "NotIn", dtype=np.bool_)
            named = [column.numbers[value] for value in requirement.values if value in column.numbers]
            table[named] = requirement.operator == "In"
        else:
            key = requirement.key
            table = np.array([requirement.matches({key: value}) for value in column.values], dtype=np.bool_)
            table[_ABSENT] = requirement.matches({})
        return table[column.cells]


def _number(text: str, missing: float) -> float:
    try:
        found = float(text)
    except ValueError:
        return missing
    return found if math.isfinite(found) else missing
