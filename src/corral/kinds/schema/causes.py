"""Causes in Kubernetes' words (apimachinery `util/validation/field`)."""

import json
from collections.abc import Iterable
from typing import Any

from corral.kinds.status import Cause


def shown(value: Any) -> str:
    """A bad value as Kubernetes prints it: strings quoted, everything else as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def required(path: str, detail: str = "") -> Cause:
    """Something must be there."""
    return Cause("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", path)


def invalid(path: str, value: Any, detail: str) -> Cause:
    """A value breaks a rule."""
    return Cause("FieldValueInvalid", f"Invalid value: {shown(value)}: {detail}", path)


def type_invalid(path: str, got: str, wanted: str) -> Cause:
    """A value has the wrong JSON type."""
    message = f'Invalid value: "{got}": {path} in body must be of type {wanted}: "{got}"'
    return Cause("FieldValueTypeInvalid", message, path)


def not_supported(path: str, value: Any, supported: Iterable[Any]) -> Cause:
    """A value is none of those allowed."""
    allowed = ", ".join(shown(item) for item in supported)
    return Cause("FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {allowed}", path)


def duplicate(path: str, value: Any) -> Cause:
    """A value stands twice where it may stand once."""
    return Cause("FieldValueDuplicate", f"Duplicate value: {shown(value)}", path)


def forbidden(path: str, detail: str) -> Cause:
    """A value may not be set, or not be changed."""
    return Cause("FieldValueForbidden", f"Forbidden: {detail}", path)


def not_found(path: str, value: Any) -> Cause:
    """A value refers to something that is not there."""
    return Cause("FieldValueNotFound", f"Not found: {shown(value)}", path)


def too_long(path: str, limit: int) -> Cause:
    """A text has more bytes than it may have."""
    return Cause("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", path)


def too_many(path: str, count: int, limit: int) -> Cause:
    """A list has more items than it may have."""
    return Cause("FieldValueTooMany", f"Too many: {count}: must have at most {limit} items", path)


def json_type(value: Any) -> str:
    """The JSON type of a value, in OpenAPI's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return _TYPES.get(type(value), type(value).__name__)


_TYPES: dict[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
}
