"""Resource quantities: `100m`, `1.5Gi`, `2e3`, exactly.

The grammar and the canonical form are those of Kubernetes' `resource.Quantity` (apimachinery, pkg/api/resource): a
signed decimal number and a suffix, decimal SI (n u m k M G T P E), binary (Ki Mi Gi Ti Pi Ei) or a decimal exponent
(e3, E-2). The smallest unit is one nano; anything finer is rounded away from zero, so that a need is never
understated. A quantity is therefore an integer count of nanos, and all arithmetic is exact.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

Format: TypeAlias = Literal["DecimalSI", "BinarySI", "DecimalExponent"]

NANOS: Final = 10**9
_NANOS_PER_MILLI: Final = 10**6
_PATTERN: Final = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
_NUMBER: Final = re.compile(r"([+-]?)(?:(\d+)(?:\.(\d*))?|\.(\d+))(.*)", re.ASCII | re.DOTALL)
_EXPONENT: Final = re.compile(r"[eE]([+-]?\d+)", re.ASCII)
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL_SUFFIX: Final = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX: Final = {0: ""} | {power: suffix for suffix, power in _BINARY.items()}
_LARGEST_BINARY: Final = (2**63 - 1) * NANOS
# Beyond these a text is an attack or a mistake, not an amount of anything; they also bound the cost of parsing.
_LONGEST_TEXT: Final = 256
_LARGEST_EXPONENT: Final = 128


@dataclass(frozen=True, slots=True)
class Quantity:
    """An exact amount. Comparisons and equality look at the amount alone; `format` only steers `str`."""

    nanos: int
    format: Format = "DecimalSI"

    def __eq__(self, other: object) -> bool:
        return self.nanos == other.nanos if isinstance(other, Quantity) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.nanos)

    def __lt__(self, other: "Quantity") -> bool:
        return self.nanos < other.nanos

    def __le__(self, other: "Quantity") -> bool:
        return self.nanos <= other.nanos

    def __gt__(self, other: "Quantity") -> bool:
        return self.nanos > other.nanos

    def __ge__(self, other: "Quantity") -> bool:
        return self.nanos >= other.nanos

    def __add__(self, other: "Quantity") -> "Quantity":
        return Quantity(self.nanos + other.nanos, self.format if self.nanos else other.format)

    def __sub__(self, other: "Quantity") -> "Quantity":
        return Quantity(self.nanos - other.nanos, self.format if self.nanos else other.format)

    def __mul__(self, factor: int) -> "Quantity":
        return Quantity(self.nanos * factor, self.format)

    def __neg__(self) -> "Quantity":
        return Quantity(-self.nanos, self.format)

    def __bool__(self) -> bool:
        return self.nanos != 0

    def milli(self) -> int:
        """Thousandths, rounded up."""
        return -(-self.nanos // _NANOS_PER_MILLI)

    def whole(self) -> int:
        """Units, rounded up."""
        return -(-self.nanos // NANOS)

    def __str__(self) -> str:
        """The canonical form: no fraction, and the largest suffix that allows it."""
        if self.format == "BinarySI" and abs(self.nanos) >= 1024 * NANOS and self.nanos % NANOS == 0:
            return _binary_text(self.nanos // NANOS)
        return _decimal_text(self.nanos, exponent_form=self.format == "DecimalExponent")


def _binary_text(units: int) -> str:
    power = 0
    while power < 6 and units % 1024 == 0:
        units //= 1024
        power += 1
    return f"{units}{_BINARY_SUFFIX[power]}"


def _decimal_text(nanos: int, *, exponent_form: bool) -> str:
    if nanos == 0:
        return "0"
    exponent = -9
    while exponent < 18 and nanos % 1000 == 0:
        nanos //= 1000
        exponent += 3
    if exponent_form:
        return f"{nanos}e{exponent}" if exponent else str(nanos)
    return f"{nanos}{_DECIMAL_SUFFIX[exponent]}"


def _refusal(text: str) -> ValueError:
    shown = text if len(text) <= 64 else text[:61] + "..."
    return ValueError(f"cannot read {shown!r} as a quantity: quantities must match the regular expression '{_PATTERN}'")


def _ceil_away(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator) if numerator >= 0 else numerator // denominator


def _suffix(text: str, suffix: str) -> tuple[int, int, Format]:
    """The multiplier that `suffix` means, as numerator and denominator, and the format it implies."""
    if suffix in _BINARY:
        return 1024 ** _BINARY[suffix], 1, "BinarySI"
    if suffix in _DECIMAL:
        exponent, form = _DECIMAL[suffix], "DecimalSI"
    else:
        match = _EXPONENT.fullmatch(suffix)
        if match is None or abs(exponent := int(match[1])) > _LARGEST_EXPONENT:
            raise _refusal(text)
        form = "DecimalExponent"
    scale = 10 ** abs(exponent)
    return (
        scale if exponent >= 0 else 1,
        1 if exponent >= 0 else scale,
        "DecimalSI" if form == "DecimalSI" else "DecimalExponent",
    )


@lru_cache(maxsize=4096)
def _parse(text: str) -> Quantity:
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if match is None:
        raise _refusal(text)
    sign, integer, fraction, bare_fraction, suffix = match.groups()
    fraction = fraction or bare_fraction or ""
    numerator, denominator, form = _suffix(text, suffix)
    digits = int((integer or "") + fraction) * (-1 if sign == "-" else 1)
    nanos = _ceil_away(digits * numerator * NANOS, denominator * 10 ** len(fraction))
    if form == "BinarySI":
        nanos = min(nanos, _LARGEST_BINARY)
        if 0 < nanos < NANOS:
            form = "DecimalSI"
    return Quantity(nanos, form)


def parse(value: str | int | float) -> Quantity:
    """The amount that `value` says; bare numbers are allowed, as they are in JSON manifests.

    Raises:
        ValueError: `value` is not a quantity; the message names the text.
    """
    if isinstance(value, str):
        return _parse(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal(repr(value))
    return _parse(repr(value))


def milli(value: str | int | float) -> int:
    """`value` in thousandths, rounded up: the cores of `100m` are 100."""
    return parse(value).milli()


def whole(value: str | int | float) -> int:
    """`value` in whole units, rounded up: the bytes of `1Ki` are 1024."""
    return parse(value).whole()


def format_milli(millis: int) -> str:
    """The canonical text of `millis` thousandths: 1500 is `1500m`, 2000 is `2`."""
    return str(Quantity(millis * _NANOS_PER_MILLI))


def format_bytes(count: int) -> str:
    """The canonical binary text of `count` bytes: 1536 is `1536`, 2048 is `2Ki`."""
    return str(Quantity(count * NANOS, "BinarySI"))


def canonical(value: str | int | float) -> str:
    """`value` as the API writes it back: `1000m` becomes `1`, `0.5Gi` becomes `512Mi`.

    Raises:
        ValueError: `value` is not a quantity.
    """
    return str(parse(value))
