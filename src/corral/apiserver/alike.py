"""Objects of one template: what the walks over a spec come to is worked out once for all specs that read the same.

Ten thousand pods of a Deployment bring ten thousand equal specs, and a controller that leaves their names to the server
even sends the same bytes ten thousand times. Pruning, defaulting and validating is a function of schema and bytes, so
the latest are remembered. Only what is sound is: an object of which anything is to be said goes the long way each time.
"""

from collections.abc import Collection
from functools import lru_cache
from typing import Final

import orjson

from corral.apiserver import metadata as meta
from corral.apiserver.context import JSON, Call
from corral.apiserver.decoding import JSON_TYPES, decode_object, expect_kind, media_type
from corral.apiserver.rendering import encode_ordered
from corral.kinds.kind import Kind
from corral.kinds.schema.base import Schema
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, Resource

_KEPT: Final = 512
# Bytes of what is remembered: templates are small, and a stranger should not fill the memory with large ones.
_LARGEST: Final = 32 * 1024
_SPEC: Final = frozenset({"spec"})
# Only of objects that the server is to name there are many that read the same.
_UNNAMED: Final = b'"generateName"'


def again(kind: Kind, call: Call) -> Obj | None:
    """What the body of a create comes to, pruned and defaulted, if nothing is wrong with it and others have sent the
    same; None if it must go the long way."""
    if len(call.body) > _LARGEST or _UNNAMED not in call.body:
        return None
    if kind.custom or media_type(call.content_type) not in JSON_TYPES:
        return None
    known = _known(kind.schema, kind.resource, call.body)
    return None if known is None else orjson.loads(known)


@lru_cache(_KEPT)
def _known(schema: Schema, resource: Resource, body: bytes) -> bytes | None:
    duplicates: list[str] = []
    try:
        obj = decode_object(body, JSON, duplicates=duplicates)
        expect_kind(obj, resource)
        meta.shape(obj)
        complaints = duplicates or schema.prune(obj)
    except (StatusError, orjson.JSONEncodeError):
        return None
    schema.default(obj)
    return None if complaints or schema.validate(obj) else orjson.dumps(obj)


def settle(kind: Kind, obj: Obj) -> Collection[str]:
    """Replace the spec of a new object by its pruned and defaulted form, if nothing is wrong with it; which members of
    `obj` are settled then (see `Schema.prune`)."""
    spec = obj.get("spec")
    if kind.custom or type(spec) is not dict:
        return ()
    try:
        text = orjson.dumps(spec)
    except orjson.JSONEncodeError:
        return ()
    settled = _settled(kind.schema, text) if len(text) <= _LARGEST else None
    if settled is None:
        return ()
    obj["spec"] = orjson.loads(settled)
    return _SPEC


def share(stored: Obj) -> tuple[Obj, bytes]:
    """What is written of a new object, and its bytes: specs that read the same are one in memory, encoded once."""
    spec = stored.get("spec")
    if type(spec) is not dict:
        return stored, encode_ordered(stored)
    text = orjson.dumps(spec)
    if len(text) > _LARGEST:
        return stored, encode_ordered(stored)
    return {**stored, "spec": _shared(text)}, encode_ordered({**stored, "spec": orjson.Fragment(text)})


@lru_cache(_KEPT)
def _shared(spec: bytes) -> Obj:
    found: Obj = orjson.loads(spec)
    return found


@lru_cache(_KEPT)
def _settled(schema: Schema, text: bytes) -> bytes | None:
    field = schema.field("spec")
    # What a kind's own default does to a spec, it does again to one that is settled without a change.
    alone = {"spec": orjson.loads(text)}
    try:
        dropped = schema.prune(alone)
    except StatusError:
        return None
    schema.default(alone)
    return None if field is None or dropped or field.validate(alone["spec"]) else orjson.dumps(alone["spec"])
