"""A CSV file as people and spreadsheets write it: rows of named cells, and errors that say where. Pure.

Read are commas, semicolons (what Excel writes where the comma is the decimal sign) and tabs; a byte order mark, an
Excel `sep=` line, empty lines and blanks around cells do no harm. Column names may be written with capitals, and with
blanks or underscores instead of hyphens. Unknown columns are refused: a misspelt one must not be silently left out.
"""

import csv
import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from corral.base import quantities
from corral.base.errors import CorralError

_DELIMITERS = ",;\t"
_PAIRS = re.compile(r"[\s,;|]+")
_DECIMAL_COMMA = re.compile(r"^([+-]?\d+),(\d+)(?=\D|$)")
# Beyond these a number is a mistake: nothing has that much, and sums must not overflow.
_MOST = 2**53
_MOST_COPIES = 1_000_000

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One line; cells that are empty are not there."""

    file: str
    line: int
    cells: Mapping[str, str]
    decimal_comma: bool = False

    def wrong(self, column: str, reason: str, remedy: str) -> CorralError:
        """The error about one cell."""
        return CorralError(f"{self.file}, line {self.line}, column {column!r}: {reason}", remedy)

    def text(self, column: str, default: str = "") -> str:
        """The cell as it stands."""
        return self.cells.get(column, default)

    def count(self, column: str, default: int = 0, *, least: int = 0, most: int = _MOST_COPIES) -> int:
        """A whole number from `least` to `most`.

        Raises:
            CorralError: it is none.
        """
        text = self.cells.get(column)
        if text is None:
            return default
        digits = text.removesuffix(".0")
        if not re.fullmatch(r"[+-]?\d{1,30}", digits, re.ASCII):
            raise self.wrong(column, f"{text!r} is not a whole number", f"write a number from {least} to {most}")
        if not least <= int(digits) <= most:
            raise self.wrong(column, f"{text} is out of range", f"write a number from {least} to {most}")
        return int(digits)

    def number(self, column: str, unit: str, default: float | None = None) -> float | None:
        """A number that is not negative; `unit` is what the error says that it counts.

        Raises:
            CorralError: it is none.
        """
        text = self.cells.get(column)
        if text is None:
            return default
        try:
            value = float(self._plain(text))
        except ValueError:
            value = math.nan
        if not 0 <= value <= _MOST:
            raise self.wrong(column, f"{text!r} is not a number of {unit}", "write digits, such as 90 or 1.5")
        return value

    def quantity(self, column: str, resource: str) -> str:
        """An amount of a resource in Kubernetes' notation; empty if the cell is.

        Raises:
            CorralError: it is none, is negative, or is an amount that nothing has.
        """
        text = self._plain(self.cells.get(column, ""))
        if not text:
            return ""
        example = "4 or 500m" if resource == "cpu" else "16Gi or 512Mi" if _in_bytes(resource) else "1 or 8"
        try:
            units = quantities.parse(text).whole()
        except ValueError:
            raise self.wrong(column, f"{text!r} is not an amount of {resource}", f"write it as {example}") from None
        if not 0 <= units <= _MOST:
            reason = "is negative" if units < 0 else "is more than any machine has"
            raise self.wrong(column, f"{text} {reason}", f"write an amount such as {example}")
        if _in_bytes(resource) and 0 < units < 2**20:
            # Hardly anyone means 64 bytes.
            raise self.wrong(column, f"{text!r} is {units} bytes", f"name the unit: {text}Mi or {text}Gi")
        return text

    def pairs(self, column: str) -> dict[str, str]:
        """`key=value` several times, between blanks, commas, semicolons or bars.

        Raises:
            CorralError: a part has no `=`.
        """
        found = {}
        for part in filter(None, _PAIRS.split(self.text(column))):
            key, equals, value = part.partition("=")
            if not equals or not key:
                raise self.wrong(column, f"{part!r} is not key=value", "write key=value, several with blanks between")
            found[key] = value
        return found

    def words(self, column: str) -> list[str]:
        """Words between blanks, commas, semicolons or bars."""
        return [part for part in _PAIRS.split(self.text(column)) if part]

    def _plain(self, text: str) -> str:
        text = text.replace("\N{NO-BREAK SPACE}", "").replace(" ", "")
        return _DECIMAL_COMMA.sub(r"\1.\2", text) if self.decimal_comma else text


def _in_bytes(resource: str) -> bool:
    return resource in ("memory", "ephemeral-storage")


def decode(data: bytes, file: str) -> str:
    """The text of a file: UTF-8, or UTF-16 with its mark (what Excel calls Unicode text).

    Raises:
        CorralError: it is neither.
    """
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorralError(
            f"{file}, line {line}: byte {data[error.start]:#04x} is not UTF-8",
            "save the file as UTF-8 (CSV UTF-8 in Excel)",
        ) from None
    if "\0" in text:
        raise CorralError(f"{file}: it is not text: it has null characters", "save it as CSV, not as a workbook")
    return text


def read(text: str, file: str, known: Mapping[str, str], *, extra: Callable[[str], bool]) -> Iterator[Row]:
    """The rows of a table.

    Args:
        known: column names that mean something -> the name that the rows use; several may mean the same.
        extra: whether a name that is not in `known` is a column nevertheless.

    Raises:
        CorralError: no header, no rows, a column that is unknown or there twice, or a line with too many cells.
    """
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise CorralError(f"{file}: it is empty", f"begin it with a header, such as: {_example(known)}")
    delimiter = ""
    if re.fullmatch(r"sep=.", lines[first].strip()):
        delimiter, first = lines[first].strip()[-1], first + 1
    header_line = lines[first] if first < len(lines) else ""
    delimiter = delimiter or max(_DELIMITERS, key=header_line.count)
    reader = csv.reader(lines[first:], delimiter=delimiter, strict=True)
    try:
        header = _header(next(reader, []), f"{file}, line {first + 1}", known, extra)
        empty = True
        for cells in reader:
            line = first + reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            empty = False
            yield _row(file, line, header, [cell.strip() for cell in cells], delimiter == ";")
    except csv.Error as error:
        raise CorralError(
            f"{file}, line {first + reader.line_num}: {error}", "correct the quotes of the line"
        ) from None
    if empty:
        raise CorralError(f"{file}: it has a header but no rows", "write one row for each machine or workload")


def _example(known: Mapping[str, str]) -> str:
    return ",".join(list(dict.fromkeys(known.values()))[:4])


def _header(cells: Sequence[str], where: str, known: Mapping[str, str], extra: Callable[[str], bool]) -> list[str]:
    header: list[str] = []
    for cell in cells:
        name = cell.strip()
        plain = re.sub(r"[\s_]+", "-", name.lower())
        column = known.get(plain, name if extra(name) else None)
        if column is None:
            close = difflib.get_close_matches(plain, known, 1)
            remedy = (
                f"did you mean {close[0]!r}?" if close else f"columns are {', '.join(dict.fromkeys(known.values()))}"
            )
            raise CorralError(
                f"{where}: there is no column {name!r}" if name else f"{where}: a column has no name", remedy
            )
        if column and column in header:
            raise CorralError(f"{where}: the column {name!r} is there twice", "keep one of them")
        header.append(column)
    return header


def _row(file: str, line: int, header: Sequence[str], cells: Sequence[str], decimal_comma: bool) -> Row:
    if any(cells[len(header) :]):
        raise CorralError(
            f"{file}, line {line}: {len(cells)} cells, but the header has {len(header)} columns",
            'put cells that contain the delimiter in quotes: "a=1,b=2"',
        )
    return Row(
        file, line, {name: cell for name, cell in zip(header, cells, strict=False) if cell and name}, decimal_comma
    )
