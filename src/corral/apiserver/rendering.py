"""Bytes once: an object is encoded when it is written and never again.

A stored value lacks `metadata.resourceVersion`, because nobody knows it before the write; rendering splices it in
behind `"metadata":{`, which is easy to find since values start with kind, apiVersion and metadata, and quotes within
JSON strings are escaped. What was rendered stays in `Entry.memo`; gets, lists and watches join these bytes.
"""

from collections.abc import Iterable

import orjson

from corral.apiserver.conversion import convert, is_respelling
from corral.kinds.kind import Kind
from corral.kinds.types import Obj, Resource
from corral.store.protocol import Entry

_METADATA = b'"metadata":{'
_HEAD = frozenset({"kind", "apiVersion", "metadata"})


class Rendered:
    """One object at one revision as the API shows it in one version.

    `json` has the bytes with resourceVersion; `obj` decodes them on first use and is shared: read it, never change it.
    `lines` caches what watches send, by event type and format.
    """

    __slots__ = ("_obj", "_views", "json", "lines")

    def __init__(self, json: bytes, obj: Obj | None = None) -> None:
        self.json = json
        self.lines: dict[tuple[str, object], bytes] = {}
        self._obj = obj
        self._views: dict[Resource, Rendered] | None = None

    @property
    def obj(self) -> Obj:
        if self._obj is None:
            self._obj = orjson.loads(self.json)
        return self._obj

    def fresh(self) -> Obj:
        """A copy of the object for its caller to change."""
        result: Obj = orjson.loads(self.json)
        return result

    def view(self, stored: Resource, wanted: Resource) -> "Rendered":
        """The same object in another version."""
        if self._views is None:
            self._views = {}
        found = self._views.get(wanted)
        if found is None:
            found = self._views[wanted] = Rendered(_convert_bytes(self.json, stored, wanted))
        return found

    def line(self, event: str) -> bytes:
        """One line of a JSON watch."""
        key = (event, None)
        found = self.lines.get(key)
        if found is None:
            found = self.lines[key] = b'{"type":"%b","object":%b}\n' % (event.encode(), self.json)
        return found


def _convert_bytes(json: bytes, stored: Resource, wanted: Resource) -> bytes:
    if is_respelling(stored, wanted):
        old = b'"apiVersion":"%b"' % stored.api_version.encode()
        return json.replace(old, b'"apiVersion":"%b"' % wanted.api_version.encode(), 1)
    return orjson.dumps(convert(orjson.loads(json), stored, wanted))


def splice(value: bytes, revision: int) -> bytes:
    """A stored value with its resourceVersion."""
    at = value.find(_METADATA) + len(_METADATA)
    comma = b"" if value[at : at + 1] == b"}" else b","
    return b'%b"resourceVersion":"%d"%b%b' % (value[:at], revision, comma, value[at:])


def as_stored(entry: Entry) -> Rendered:
    """An entry in the version it is stored in."""
    memo: Rendered | Obj | None = entry.memo
    if isinstance(memo, Rendered):
        return memo
    made = Rendered(splice(entry.value, entry.revision), None if memo is None else _at(memo, entry.revision))
    entry.memo = made
    return made


def _at(written: Obj, revision: int) -> Obj:
    """What `written`, which its writer has given away, reads like at `revision`."""
    return {**written, "metadata": {"resourceVersion": str(revision), **written["metadata"]}}


def render(entry: Entry, kind: Kind, stored: Resource) -> Rendered:
    """An entry as `kind` shows it; `stored` says what it is stored as."""
    rendered = as_stored(entry)
    return rendered if stored is kind.resource else rendered.view(stored, kind.resource)


def read(entry: Entry) -> Obj:
    """The object as stored, for reading only."""
    return as_stored(entry).obj


def unrevised(obj: Obj) -> Obj:
    """An object as it is stored: without resourceVersion, keys in the order that `splice` relies on."""
    metadata = obj["metadata"]
    if "resourceVersion" in metadata:
        metadata = {key: value for key, value in metadata.items() if key != "resourceVersion"}
    return {"kind": obj["kind"], "apiVersion": obj["apiVersion"], "metadata": metadata} | {
        key: value for key, value in obj.items() if key not in _HEAD
    }


def encode(obj: Obj) -> bytes:
    """The value to store."""
    return encode_ordered(unrevised(obj))


def encode_ordered(ordered: Obj) -> bytes:
    """The bytes of what `unrevised` made."""
    # orjson's result keeps the buffer that it was written into, 4 KB at least: what is stored is a copy to measure.
    return memoryview(orjson.dumps(ordered)).tobytes()


def join_list(kind: Kind, items: Iterable[bytes], meta: Obj) -> bytes:
    """A list from the bytes of its items."""
    head = b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
        kind.list_kind.encode(),
        kind.resource.api_version.encode(),
        orjson.dumps(meta),
    )
    return b"".join((head, b",".join(items), b"]}\n"))


def partial(obj: Obj) -> Obj:
    """`PartialObjectMetadata` of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
