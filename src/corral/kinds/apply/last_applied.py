"""The annotation of kubectl's client-side apply, which eases the way to server-side apply.

While it is there, `kubectl apply --server-side` may take over what it records without a conflict, and keeps it current
for a way back. Source: apimachinery, util/managedfields/internal/lastappliedmanager.go and lastappliedupdater.go.
"""

from typing import Final

import orjson

from corral.kinds.apply.fieldsets import Trie
from corral.kinds.apply.nodes import Node
from corral.kinds.apply.walk import fields_of
from corral.kinds.types import Obj

ANNOTATION: Final = "kubectl.kubernetes.io/last-applied-configuration"
KUBECTL: Final = "kubectl"
"""The field manager that the annotation is kept for."""
_LARGEST: Final = 256 * 1024
"""Bytes that all annotations of an object may have."""


def recorded_fields(node: Node, live: Obj) -> Trie:
    """The fields that the annotation of `live` sets; none if it is missing or cannot be read."""
    text = (live["metadata"].get("annotations") or {}).get(ANNOTATION)
    if not text:
        return {}
    try:
        recorded = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return fields_of(node, recorded) if isinstance(recorded, dict) else {}


def keep_current(obj: Obj, live: Obj, config: Obj) -> None:
    """Record `config` in the annotation of `obj`, in place, if `live` has the annotation."""
    if ANNOTATION not in (live["metadata"].get("annotations") or {}):
        return
    annotations = obj["metadata"].setdefault("annotations", {})
    metadata = {key: value for key, value in config["metadata"].items() if key != "managedFields"}
    if ANNOTATION in (metadata.get("annotations") or {}):
        metadata["annotations"] = {key: text for key, text in metadata["annotations"].items() if key != ANNOTATION}
    text = orjson.dumps({**config, "metadata": metadata}, option=orjson.OPT_SORT_KEYS).decode() + "\n"
    size = sum(len(key) + len(value) for key, value in annotations.items() if key != ANNOTATION)
    annotations[ANNOTATION] = text if size + len(ANNOTATION) + len(text) <= _LARGEST else ""
