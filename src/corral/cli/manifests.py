"""Manifests as kubectl reads them with -f: files, directories, stdin; several documents, and lists."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from corral.apiserver.yaml_documents import load_all
from corral.base.errors import CorralError
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

_ENDINGS = (".json", ".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object, and what to call its place in an error."""

    obj: Obj
    source: str

    @property
    def title(self) -> str:
        """`Kind/name`, as far as it has them."""
        metadata = self.obj.get("metadata")
        name = (metadata.get("name") or metadata.get("generateName")) if isinstance(metadata, dict) else None
        return f"{self.obj.get('kind')}/{name or '?'}"


def read(paths: Sequence[str], *, recursive: bool = False) -> list[Manifest]:
    """All objects in `paths`, in order; `-` is stdin, a directory means the manifests in it.

    Raises:
        CorralError: a file cannot be read, is not YAML or JSON, or holds something that is no object.
    """
    found = [manifest for path in paths for source in _sources(path, recursive) for manifest in _read(source)]
    if not found:
        raise CorralError(f"cannot find an object in {', '.join(paths)}", "name files with Kubernetes manifests")
    return found


def _sources(path: str, recursive: bool) -> Iterator[str]:
    if path == "-" or not Path(path).is_dir():
        yield path
        return
    inside = Path(path).rglob("*") if recursive else Path(path).iterdir()
    files = sorted(str(file) for file in inside if file.suffix in _ENDINGS and file.is_file())
    if not files:
        raise CorralError(f"cannot find a manifest in {path}", f"name a file, or one with files ending in {_ENDINGS}")
    yield from files


def _read(source: str) -> Iterator[Manifest]:
    name = "stdin" if source == "-" else source
    try:
        body = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise CorralError(
            f"cannot read {name}: {error.strerror}", "name a file or directory, or - for stdin"
        ) from error
    try:
        documents = _json(body) or list(load_all(body))
    except StatusError as error:
        raise CorralError(f"cannot read {name}: {error.message}", "correct the file") from error
    for number, document in enumerate(documents, 1):
        place = name if len(documents) == 1 else f"{name}, document {number}"
        if document is not None:
            yield from _objects(document, place)


def _json(body: bytes) -> list[Any]:
    """The one value of a JSON file, a hundred times as fast as by way of YAML; nothing if it is none."""
    try:
        return [orjson.loads(body)] if body.lstrip()[:1] == b"{" else []
    except orjson.JSONDecodeError:
        return []  # YAML in braces begins alike


def _objects(document: Any, place: str) -> Iterator[Manifest]:
    if not isinstance(document, dict) or not document.get("kind") or not document.get("apiVersion"):
        raise CorralError(f"cannot use {place}: it is no object with apiVersion and kind", "write a manifest")
    items = document.get("items")
    if str(document["kind"]).endswith("List") and isinstance(items, list):
        for number, item in enumerate(items):
            yield from _objects(item, f"{place}, items[{number}]")
    else:
        yield Manifest(document, place)
