"""Formats of strings and numbers: what each accepts, and what is said when it does not."""

import binascii
import ipaddress
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final

from corral.base import quantities
from corral.base.clock import parse_rfc3339

_RANGES: Final = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
_DURATION = re.compile(
    r"[+-]?(0|(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*)"
)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_HOSTNAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*"
)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S*|/\S*")

QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


def _byte(value: str) -> bool:
    try:
        binascii.a2b_base64(value, strict_mode=True)
    except (binascii.Error, ValueError):
        return not value
    return True


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def accepts(value: str) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return accepts


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda value: pattern.fullmatch(value) is not None


def quantity(value: Any) -> bool:
    """Whether a value is a quantity such as `100m`, `1.5Gi`, `2`."""
    if isinstance(value, bool):
        return False
    try:
        quantities.parse(value)
    except (ValueError, TypeError):
        return False
    return True


_STRINGS: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "byte": (_byte, "must be base64 (RFC 4648, with padding)"),
    "date-time": (_parses(parse_rfc3339), "must be a time as in RFC 3339 (2006-01-02T15:04:05Z)"),
    "datetime": (_parses(parse_rfc3339), "must be a time as in RFC 3339 (2006-01-02T15:04:05Z)"),
    "date": (_parses(date.fromisoformat), "must be of type date"),
    "duration": (_matches(_DURATION), "must be of type duration (for example 1h30m)"),
    "email": (_matches(_EMAIL), "must be of type email"),
    "hostname": (_matches(_HOSTNAME), "must be of type hostname"),
    "ipv4": (_parses(ipaddress.IPv4Address), "must be of type ipv4"),
    "ipv6": (_parses(ipaddress.IPv6Address), "must be of type ipv6"),
    "ip": (_parses(ipaddress.ip_address), "must be of type ip"),
    "cidr": (_parses(ipaddress.ip_network), "must be of type cidr"),
    "uri": (_matches(_URI), "must be of type uri"),
    "uuid": (_parses(uuid.UUID), "must be of type uuid"),
    "quantity": (quantity, QUANTITY),
}


def string_format(name: str) -> tuple[Callable[[str], bool], str] | None:
    """The acceptor and the words of refusal of a string format; None for one that nobody checks."""
    return _STRINGS.get(name)


def number_range(name: str) -> tuple[int, int] | None:
    """The inclusive range of an integer format."""
    return _RANGES.get(name)
