"""Rules that every object obeys: names, labels, annotations, finalizers, owner references.

The rules and their wording are apimachinery's (`api/validation`, `util/validation`); messages are what people search
for, so they are kept as they are.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from corral.kinds.schema.causes import forbidden, invalid, required, too_long
from corral.kinds.status import Cause
from corral.kinds.types import Obj

NameRule = Callable[[str], list[str]]
"""What is wrong with a name, in words; empty if nothing is."""

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_1035: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_VALUE: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_CONFIG_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_SUBDOMAIN_WORDS: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_WORDS: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_1035_WORDS: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_QUALIFIED_WORDS: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_WORDS: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
ANNOTATIONS_LIMIT: Final = 256 * 1024
"""Bytes of all annotation keys and values together."""


def _too_long(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def dns_subdomain(name: str) -> list[str]:
    """DNS-1123 subdomain: most names."""
    found = [_too_long(253)] if len(name) > 253 else []
    if _SUBDOMAIN.fullmatch(name) is None:
        found.append(_SUBDOMAIN_WORDS)
    return found


def dns_label(name: str) -> list[str]:
    """DNS-1123 label: namespaces, containers, volumes."""
    if _LABEL.fullmatch(name) is not None:
        return []
    return [_too_long(63)] if len(name) > 63 and _SUBDOMAIN.fullmatch(name) else [_LABEL_WORDS]


def dns_1035_label(name: str) -> list[str]:
    """RFC 1035 label: services of old; starts with a letter."""
    if _LABEL_1035.fullmatch(name) is not None:
        return []
    return [_too_long(63)] if len(name) > 63 else [_LABEL_1035_WORDS]


def path_segment(name: str) -> list[str]:
    """Whatever can stand in a URL path: roles and bindings."""
    if name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{mark}'" for mark in "/%" if mark in name]


_QUALIFIED_OK: set[str] = set()
_VALUE_OK: set[str] = set()
_REMEMBERED: Final = 10_000


def qualified_name(name: str) -> list[str]:
    """`[prefix/]name` as label keys, annotation keys and resource names are."""
    if name in _QUALIFIED_OK:
        return []
    found: list[str] = []
    prefix, slash, last = name.rpartition("/")
    if slash and "/" in prefix:
        return [
            "a qualified name must consist of alphanumeric characters, '-', '_' or '.', with an optional DNS subdomain "
            "prefix and '/' (e.g. 'example.com/MyName')"
        ]
    if slash:
        found += (
            ["prefix part must be non-empty"] if not prefix else [f"prefix part {m}" for m in dns_subdomain(prefix)]
        )
    if not last:
        found.append("name part must be non-empty")
    elif len(last) > 63:
        found.append(f"name part {_too_long(63)}")
    if _QUALIFIED.fullmatch(last) is None:
        found.append(_QUALIFIED_WORDS)
    if not found and len(_QUALIFIED_OK) < _REMEMBERED:
        _QUALIFIED_OK.add(name)
    return found


def label_value(value: str) -> list[str]:
    """What is wrong with a label's value."""
    if value in _VALUE_OK:
        return []
    found = [_too_long(63)] if len(value) > 63 else []
    if _VALUE.fullmatch(value) is None:
        found.append(_VALUE_WORDS)
    if not found and len(_VALUE_OK) < _REMEMBERED:
        _VALUE_OK.add(value)
    return found


def config_key(key: str) -> list[str]:
    """Keys of ConfigMaps and Secrets."""
    found = [_too_long(253)] if len(key) > 253 else []
    if _CONFIG_KEY.fullmatch(key) is None:
        found.append(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
            "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
        )
    elif key == "." or key == ".." or key.startswith(".."):
        found.append(f"must not be '{key}'" if key in (".", "..") else "must not start with '..'")
    return found


def validate_labels(labels: Mapping[str, str], path: str) -> list[Cause]:
    """Keys and values of labels (also of selectors)."""
    causes: list[Cause] = []
    for key, value in labels.items():
        causes += [invalid(path, key, why) for why in qualified_name(key)]
        causes += [invalid(path, value, why) for why in label_value(value)]
    return causes


def validate_annotations(annotations: Mapping[str, str], path: str) -> list[Cause]:
    """Keys of annotations and their size together."""
    causes: list[Cause] = []
    size = 0
    for key, value in annotations.items():
        if key not in _QUALIFIED_OK:
            causes += [invalid(path, key, why) for why in qualified_name(key.lower())]
        size += len(key) + len(value)
    if size > ANNOTATIONS_LIMIT // 4 and _bytes(annotations) > ANNOTATIONS_LIMIT:
        causes.append(too_long(path, ANNOTATIONS_LIMIT))
    return causes


def _bytes(texts: Mapping[str, str]) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in texts.items())


def validate_metadata(obj: Obj, *, namespaced: bool, name_rule: NameRule = dns_subdomain) -> list[Cause]:
    """An object's metadata on its own. The name has been generated already where it was asked for."""
    metadata: Mapping[str, Any] = obj.get("metadata") or {}
    causes = _validate_names(metadata, namespaced=namespaced, name_rule=name_rule)
    labels = metadata.get("labels")
    if labels:
        causes += validate_labels(labels, "metadata.labels")
    annotations = metadata.get("annotations")
    if annotations:
        causes += validate_annotations(annotations, "metadata.annotations")
    owners = metadata.get("ownerReferences")
    if owners:
        causes += _validate_owners(owners)
    finalizers = metadata.get("finalizers")
    if finalizers:
        causes += _validate_finalizers(finalizers)
    return causes


def _validate_names(metadata: Mapping[str, Any], *, namespaced: bool, name_rule: NameRule) -> list[Cause]:
    causes: list[Cause] = []
    prefix = metadata.get("generateName", "")
    name = metadata.get("name", "")
    if prefix:
        # A trailing dash is the custom; what follows it will be alphanumeric.
        causes += [invalid("metadata.generateName", prefix, why) for why in name_rule(prefix[:-1] + "a")]
    if not name:
        if not prefix:
            causes.append(required("metadata.name", "name or generateName is required"))
    else:
        causes += [invalid("metadata.name", name, why) for why in name_rule(name)]
    namespace = metadata.get("namespace", "")
    if namespaced:
        if not namespace:
            causes.append(required("metadata.namespace"))
        else:
            causes += [invalid("metadata.namespace", namespace, why) for why in dns_label(namespace)]
    elif namespace:
        causes.append(forbidden("metadata.namespace", "not allowed on this type"))
    if metadata.get("generation", 0) < 0:
        causes.append(invalid("metadata.generation", metadata["generation"], "must be greater than or equal to 0"))
    return causes


def _validate_owners(owners: Iterable[Mapping[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    controller = ""
    for owner in owners:
        path = "metadata.ownerReferences"
        if not owner.get("apiVersion"):
            causes.append(invalid(f"{path}.apiVersion", "", "version must not be empty"))
        for field in ("kind", "name", "uid"):
            if not owner.get(field):
                causes.append(invalid(f"{path}.{field}", "", "must not be empty"))
        if owner.get("kind") == "Event" and owner.get("apiVersion") == "v1":
            causes.append(invalid(path, owner, "v1, Kind=Event is disallowed from being an owner"))
        if owner.get("controller"):
            if controller:
                why = (
                    "Only one reference can have Controller set to true. Found "
                    f'"true" in references for {controller} and {owner.get("name")}'
                )
                causes.append(invalid(path, owner, why))
            controller = owner.get("name", "")
    return causes


def _validate_finalizers(finalizers: Iterable[str]) -> list[Cause]:
    causes: list[Cause] = []
    for name in finalizers:
        causes += [invalid("metadata.finalizers", name, why) for why in qualified_name(name)]
    return causes


IMMUTABLE: Final = "field is immutable"


def validate_metadata_update(obj: Obj, old: Obj) -> list[Cause]:
    """What of the metadata an update may not change."""
    metadata, before = obj["metadata"], old["metadata"]
    causes = [
        invalid(f"metadata.{name}", metadata.get(name, ""), IMMUTABLE)
        for name in ("name", "namespace", "uid")
        if metadata.get(name, "") != before.get(name, "")
    ]
    if before.get("deletionTimestamp"):
        added = [name for name in metadata.get("finalizers", ()) if name not in before.get("finalizers", ())]
        if added:
            why = f"no new finalizers can be added if the object is being deleted, found new finalizers {added!r}"
            causes.append(forbidden("metadata.finalizers", why.replace("'", '"')))
    return causes


def immutable(obj: Any, old: Any, path: str) -> list[Cause]:
    """A cause if a value differs from what it was."""
    return [] if obj == old else [invalid(path, obj, IMMUTABLE)]
