"""Objects of one template: what the walks over a spec come to is worked out once for all specs that read the same.

Ten thousand pods of a Deployment bring ten thousand equal specs. Pruning, defaulting and validating one is a function
of its schema and its bytes, so the latest are remembered. Only what is sound is: a spec of which anything is to be said
goes the long way each time.
"""

from collections.abc import Collection
from functools import lru_cache
from typing import Final

import orjson

from corral.apiserver.rendering import encode_ordered
from corral.kinds.kind import Kind
from corral.kinds.schema.base import Schema
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

_KEPT: Final = 512
_SPEC: Final = frozenset({"spec"})


def settle(kind: Kind, obj: Obj) -> Collection[str]:
    """Replace the spec of a new object by its pruned and defaulted form, if nothing is wrong with it; which members of
    `obj` are settled then (see `Schema.prune`)."""
    spec = obj.get("spec")
    if kind.custom or type(spec) is not dict:
        return ()
    try:
        settled = _settled(kind.schema, orjson.dumps(spec))
    except orjson.JSONEncodeError:
        return ()
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
