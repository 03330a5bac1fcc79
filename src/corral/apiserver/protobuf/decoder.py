"""From the wire to JSON values, by the field numbers in `messages.json`.

The envelope is `runtime.Unknown` behind four magic bytes; it names the kind. Go writes fields that are not pointers
even if they are zero, and the wire does not tell them from pointers to zero. So zeros are dropped as Go's JSON drops
them, but for pointers that may be meant to point to zero: the numbers in `_MEANT`, the texts in `_MEANT_TEXTS`, and
every boolean that is not in `_UNSAID`.
"""

import base64
import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

import orjson

from corral.base.clock import rfc3339, rfc3339_micro
from corral.kinds.status import bad_request, unsupported_media_type
from corral.kinds.types import Obj

MAGIC = b"k8s\x00"

_META = "apis.meta.v1."
_DEEPEST = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE, _MANY, _MAP = 0, 1, 2

# Messages that Go's JSON embeds in the object that has them.
_INLINE = frozenset(
    {
        "ephemeralContainerCommon",
        "handler",
        "ingressRuleValue",
        "localObjectReference",
        "persistentVolumeSource",
        "rule",
        "ruleWithOperations",
        "volumeSource",
    }
)
# Numbers for which an explicit zero is an answer.
_MEANT = frozenset(
    {
        "activeDeadlineSeconds",
        "averageUtilization",
        "backoffLimit",
        "backoffLimitPerIndex",
        "completions",
        "defaultMode",
        "expirationSeconds",
        "failedJobsHistoryLimit",
        "fsGroup",
        "gracePeriodSeconds",
        "leaseTransitions",
        "maxFailedIndexes",
        "minReplicas",
        "mode",
        "parallelism",
        "partition",
        "priority",
        "progressDeadlineSeconds",
        "replicas",
        "revisionHistoryLimit",
        "runAsGroup",
        "runAsUser",
        "stabilizationWindowSeconds",
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "terminationGracePeriodSeconds",
        "tolerationSeconds",
        "ttlSecondsAfterFinished",
        "value",
    }
)

_MEANT_TEXTS = frozenset(
    {
        ("api.coordination.v1.LeaseSpec", "holderIdentity"),
        ("api.core.v1.PersistentVolumeClaimSpec", "storageClassName"),
        ("api.core.v1.PersistentVolumeClaimSpec", "volumeAttributesClassName"),
    }
)
# Booleans that are no pointers: a false one was not said.
_UNSAID = frozenset(
    {
        "authenticated",
        "chapAuthDiscovery",
        "chapAuthSession",
        "clusterScope",
        "denied",
        "globalDefault",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "paused",
        "publishNotReadyAddresses",
        "readOnly",
        "sslEnabled",
        "stdin",
        "stdinOnce",
        "tty",
        "unschedulable",
    }
)

Field: TypeAlias = tuple[str, str, int]


@cache
def _messages() -> dict[str, dict[int, Field]]:
    text = files("corral.apiserver.protobuf").joinpath("messages.json").read_bytes()
    return {name: {row[0]: (row[1], row[2], row[3]) for row in rows} for name, rows in orjson.loads(text).items()}


def decode_protobuf(body: bytes) -> Obj:
    """The object in a protobuf body.

    Raises:
        StatusError: 400, the body is broken; 415, it has a kind or a field that is not known here.
    """
    if not body.startswith(MAGIC):
        raise bad_request(
            "cannot decode the body as protobuf: it does not begin with the bytes that Kubernetes' bodies do"
        )
    try:
        envelope = dict(_fields(body[len(MAGIC) :]))
        head = dict(_fields(envelope.get(1, b"")))
        version, kind = head.get(1, b"").decode(), head.get(2, b"").decode()
        obj = _message(_name_of(version, kind), envelope.get(2, b""), 0)
    except (ValueError, IndexError, TypeError, AttributeError, struct.error, OverflowError) as error:
        raise bad_request(f"cannot decode the body as protobuf: {error}") from error
    return {"kind": kind, "apiVersion": version, **obj}


def _name_of(version: str, kind: str) -> str:
    group, _, version_only = version.rpartition("/")
    for name in (f"api.{group.split('.')[0] or 'core'}.{version_only}.{kind}", _META + kind):
        if name in _messages():
            return name
    raise unsupported_media_type(f"cannot read {kind or 'this kind'} of {version} in protobuf; send application/json")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > end:
                raise ValueError("it ends within a field")
            yield tag >> 3, data[at : at + size]
            at += size
        elif wire == 1:
            yield tag >> 3, struct.unpack_from("<d", data, at)[0]
            at += 8
        else:
            raise ValueError(f"a field has the wire type {wire}, which Kubernetes does not use")


def _message(name: str, data: bytes, depth: int) -> Obj:
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    known = _messages()[name]
    result: Obj = {}
    for number, raw in _fields(data):
        field = known.get(number)
        if field is None:
            raise unsupported_media_type(
                f"cannot read field {number} of {name.rsplit('.', 1)[1]} in protobuf; send application/json"
            )
        json_name, kind, many = field
        if many == _MAP:
            key, value = _entry(kind, raw, depth)
            result.setdefault(json_name, {})[key] = value
            continue
        value = _value(kind, raw, depth)
        if many == _MANY:
            result.setdefault(json_name, []).append(value)
        elif json_name in _INLINE and isinstance(value, dict):
            result.update(value)
        elif _is_said(name, json_name, value):
            result[json_name] = value
    return result


def _is_said(message: str, name: str, value: Any) -> bool:
    if value is None:
        return False
    if isinstance(value, bool):
        return value or name not in _UNSAID
    if isinstance(value, str):
        return value != "" or (message, name) in _MEANT_TEXTS
    return value != 0 or name in _MEANT


def _entry(kind: str, raw: bytes, depth: int) -> tuple[str, Any]:
    parts = dict(_fields(raw))
    return parts.get(1, b"").decode(), _value(kind, parts.get(2, b""), depth)


def _value(kind: str, raw: Any, depth: int) -> Any:
    if kind == "string":
        return raw.decode()
    if kind == "int":
        return raw - (1 << 64) if raw >= 1 << 63 else raw
    if kind == "bool":
        return bool(raw)
    if kind == "bytes":
        return base64.b64encode(raw).decode()
    if kind in ("double", "float"):
        return raw
    special = _SPECIAL.get(kind)
    if special is not None:
        return special(raw)
    message = _message(kind, raw, depth + 1)
    # Named list types (ExtraValue, Verbs) are messages on the wire and plain lists in JSON.
    if _messages()[kind].keys() == {1} and _messages()[kind][1][0] == "items":
        return message.get("items", [])
    return message


def _moment(raw: bytes) -> datetime | None:
    parts = dict(_fields(raw))
    if not parts:
        return None
    seconds = _value("int", parts.get(1, 0), 0)
    return _EPOCH + timedelta(seconds=seconds, microseconds=parts.get(2, 0) // 1000)


def _time(raw: bytes) -> str | None:
    moment = _moment(raw)
    return None if moment is None else rfc3339(moment)


def _micro_time(raw: bytes) -> str | None:
    moment = _moment(raw)
    return None if moment is None else rfc3339_micro(moment)


def _quantity(raw: bytes) -> str:
    text: str = dict(_fields(raw)).get(1, b"0").decode()
    return text


def _int_or_string(raw: bytes) -> int | str:
    parts = dict(_fields(raw))
    if parts.get(1, 0) == 1:
        text: str = parts.get(3, b"").decode()
        return text
    number: int = _value("int", parts.get(2, 0), 0)
    return number


def _embedded(raw: bytes) -> Any:
    content = dict(_fields(raw)).get(1, b"")
    return json.loads(content) if content else None


def _duration(raw: bytes) -> str:
    nanoseconds = _value("int", dict(_fields(raw)).get(1, 0), 0)
    return f"{nanoseconds / 1e9:g}s"


_SPECIAL = {
    _META + "Time": _time,
    _META + "MicroTime": _micro_time,
    _META + "Duration": _duration,
    _META + "FieldsV1": _embedded,
    "api.resource.Quantity": _quantity,
    "util.intstr.IntOrString": _int_or_string,
    "runtime.RawExtension": _embedded,
}
