"""Small rules that many kinds share."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final

from corral.kinds.schema.causes import duplicate, forbidden, invalid, required
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import Cause, StatusError
from corral.kinds.validation import NameRule, qualified_name, validate_labels

_PORT_NAME: Final = re.compile(r"[a-z0-9-]+")
_PERCENT: Final = re.compile(r"[0-9]+%")
_NOT_NEGATIVE: Final = "must be greater than or equal to 0"
_PERCENT_WORDS: Final = (
    "a valid percent string must be a numeric followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)


def named(name: str, path: str, rule: NameRule, seen: set[str]) -> list[Cause]:
    """A name inside a list: valid by its rule and there only once. An absent one is the schema's affair."""
    if not name:
        return []
    causes = [invalid(path, name, why) for why in rule(name)]
    if name in seen:
        causes.append(duplicate(path, name))
    seen.add(name)
    return causes


def in_range(value: int, low: int, high: int, path: str) -> list[Cause]:
    """An inclusive range."""
    if low <= value <= high:
        return []
    return [invalid(path, value, f"must be between {low} and {high}, inclusive")]


def non_negative(obj: Mapping[str, Any], path: str, *fields: str) -> list[Cause]:
    """Each of the fields, where it is there, is at least 0."""
    return [
        invalid(f"{path}.{field}", obj[field], _NOT_NEGATIVE)
        for field in fields
        if obj.get(field) is not None and obj[field] < 0
    ]


def port_number(value: int, path: str) -> list[Cause]:
    """A port of TCP or UDP."""
    return in_range(value, 1, 65535, path)


def check_port_name(name: str, path: str) -> list[Cause]:
    """An IANA service name: at most 15 of a-z, 0-9 and single dashes inside, with a letter among them."""
    found: list[str] = []
    if len(name) > 15:
        found.append("must be no more than 15 characters")
    if _PORT_NAME.fullmatch(name) is None:
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", name):
        found.append("must contain at least one letter (a-z)")
    if "--" in name:
        found.append("must not contain consecutive hyphens")
    if name.startswith("-") or name.endswith("-"):
        found.append("must not begin or end with a hyphen")
    return [invalid(path, name, why) for why in found]


def port_or_name(value: int | str, path: str) -> list[Cause]:
    """A port by number or by the name of a container's port."""
    if isinstance(value, str):
        return check_port_name(value, path)
    return port_number(value, path)


def count_or_percent(value: int | str, path: str, *, at_most_all: bool = False) -> list[Cause]:
    """A number that is not negative, or a percentage, of at most 100 % if `at_most_all`."""
    if isinstance(value, str):
        if _PERCENT.fullmatch(value) is None:
            return [invalid(path, value, _PERCENT_WORDS)]
        if at_most_all and int(value[:-1]) > 100:
            return [invalid(path, value, "must not be greater than 100%")]
        return []
    return [invalid(path, value, _NOT_NEGATIVE)] if value < 0 else []


def is_zero(value: int | str | None) -> bool:
    """Whether a count or percentage is nothing."""
    return value in (0, "0%", None) or (isinstance(value, str) and value.rstrip("%").strip("0") == "")


def is_ip(text: str) -> bool:
    """Whether a text is an address, v4 or v6."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_cidr(text: str) -> bool:
    """Whether a text is a network such as 10.0.0.0/8."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def check_label_selector(selector: Mapping[str, Any] | None, path: str) -> list[Cause]:
    """`metav1.LabelSelector`."""
    if not selector:
        return []
    causes = validate_labels(selector.get("matchLabels") or {}, f"{path}.matchLabels")
    for index, wanted in enumerate(selector.get("matchExpressions") or ()):
        where = f"{path}.matchExpressions[{index}]"
        operator, values = wanted.get("operator"), wanted.get("values")
        if operator in ("In", "NotIn") and not values:
            causes.append(required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist") and values:
            why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            causes.append(forbidden(f"{where}.values", why))
        causes += [invalid(f"{where}.key", wanted.get("key"), why) for why in qualified_name(wanted.get("key", ""))]
    return causes


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector object matches; False for one that makes no sense (which is refused elsewhere)."""
    try:
        return LabelSelector.from_object(dict(selector)).matches(labels)
    except StatusError:
        return False
