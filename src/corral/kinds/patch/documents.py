"""JSON documents as values: deep copies that share nothing, and what a patch may not contain."""

from typing import Any


def copied(value: Any) -> Any:
    """A deep copy of JSON data; several times quicker than `copy.deepcopy`, which must expect anything."""
    if type(value) is dict:
        return {key: copied(item) if type(item) in (dict, list) else item for key, item in value.items()}
    if type(value) is list:
        return [copied(item) if type(item) in (dict, list) else item for item in value]
    return value


def without_nulls(value: Any) -> Any:
    """A deep copy of `value` whose mappings have no null members; nulls in lists stay."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
