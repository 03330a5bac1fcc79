"""Installs the custom kinds that come with Corral.

A definition is made if there is none of its name, and replaced if an older Corral made it. One that somebody else has
made or written to (managedFields name them; this module leaves none) is theirs and stays as it is. Writes go straight
to the store, status included, so that all of them share one commit and custom kinds have nothing left to report.
"""

import asyncio

import orjson

from corral.apiserver import metadata as meta
from corral.apiserver.core import Core, key_of
from corral.apiserver.crds import reported
from corral.apiserver.rendering import encode, read
from corral.kinds.bundled import ANNOTATION, Bundled, bundled
from corral.kinds.crd import conditions
from corral.kinds.resources import CUSTOM_RESOURCE_DEFINITIONS
from corral.kinds.types import Obj
from corral.store.protocol import Entry


async def install_bundled(core: Core) -> None:
    """Bring the store up to date with the files; a definition that loses a race to another writer is left alone."""
    writes = []
    for file in bundled():
        key = key_of(CUSTOM_RESOURCE_DEFINITIONS, "", file.name)
        entry = core.store.get(key)
        if entry is None:
            writes.append(core.store.create(key, _value(core, file.parse())))
        elif _is_outdated(entry, file):
            writes.append(core.store.update(key, _value(core, file.parse(), read(entry)), entry.revision))
    await asyncio.gather(*writes)


def _is_outdated(entry: Entry, file: Bundled) -> bool:
    metadata = read(entry)["metadata"]
    number = (metadata.get("annotations") or {}).get(ANNOTATION, "")
    if metadata.get("managedFields") or metadata.get("deletionTimestamp") or not number.isdecimal():
        return False
    return int(number) < file.number


def _value(core: Core, crd: Obj, old: Obj | None = None) -> bytes:
    definition = CUSTOM_RESOURCE_DEFINITIONS
    kind = core.registry.get(definition.group, definition.version, definition.plural)
    assert kind is not None
    kind.schema.default(crd)
    if old is None:
        meta.stamp(crd["metadata"], core.timestamp())
        kind.strategy.prepare_create(crd)
    else:
        kept = {**old["metadata"], "annotations": crd["metadata"]["annotations"]}
        crd["metadata"] = {**kept, "generation": kept.get("generation", 0) + 1}
        crd["status"] = orjson.loads(orjson.dumps(old.get("status") or {}))
    return encode(reported(crd, conditions(crd, core.registry), core.now()))
