"""Distils Kubernetes' protobuf field numbers into `src/corral/apiserver/protobuf/messages.json`.

Every kubectl (up to the versions that register with gogo/protobuf) carries the gzipped descriptors of the API's
messages. This reads them out of the program and keeps names, numbers and types: the wire format, nothing else.

    python tools/distill_wire.py /usr/bin/kubectl
"""

import json
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent.parent / "src/corral/apiserver/protobuf/messages.json"
_GZIP = re.compile(rb"\x1f\x8b\x08\x00\x00\x00\x00\x00")
_SCALARS = {1: "double", 2: "float", 3: "int", 4: "int", 5: "int", 8: "bool", 9: "string", 12: "bytes", 13: "int"}
_UNSTABLE = re.compile(r"v\d+(alpha|beta)\d+$")
_MESSAGE, _REPEATED = 11, 3
# The few fields whose names in the descriptors are not those of their JSON.
_JSON_NAMES = {
    "Expression": "expression",
    "Name": "name",
    "Webhooks": "webhooks",
    "aPIGroup": "apiGroup",
    "uID": "uid",
}


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and raw values of one message."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            value, at = varint(data, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            size, at = varint(data, at)
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            at += 8 if tag & 7 == 1 else 4


def descriptors(program: bytes) -> Iterator[bytes]:
    """Everything gzipped in the program that may be a FileDescriptorProto."""
    for match in _GZIP.finditer(program):
        try:
            yield zlib.decompressobj(31).decompress(program[match.start() : match.start() + (1 << 20)])
        except zlib.error:
            continue


def short(name: str) -> str:
    """`k8s.io.api.core.v1.Pod` as `api.core.v1.Pod`, `.k8s.io.apimachinery.pkg.` as `meta.`-like names."""
    return name.removeprefix(".").removeprefix("k8s.io.").replace("apimachinery.pkg.", "")


def messages(prefix: str, message: bytes) -> Iterator[tuple[str, list[Any], bool]]:
    """A message and those nested in it: name, rows of (number, name, type, repeated), whether it is a map entry."""
    parts = list(fields(message))
    name = f"{prefix}.{next(value for number, value in parts if number == 1).decode()}"
    rows = [row(value) for number, value in parts if number == 2]
    options = [dict(fields(value)) for number, value in parts if number == 7]
    yield short(name), rows, any(option.get(7) for option in options)
    for number, value in parts:
        if number == 3:
            yield from messages(name, value)


def row(field: bytes) -> list[Any]:
    values = dict(fields(field))
    kind = short(values[6].decode()) if values[5] == _MESSAGE else _SCALARS[values[5]]
    name = values[1].decode()
    return [values[3], _JSON_NAMES.get(name, name), kind, int(values[4] == _REPEATED)]


def main() -> None:
    found: dict[str, Any] = {}
    entries: dict[str, Any] = {}
    for data in descriptors(Path(sys.argv[1]).read_bytes()):
        try:
            parts = list(fields(data))
            package = next(value for number, value in parts if number == 2).decode()
        except (IndexError, StopIteration, UnicodeDecodeError, AttributeError):
            continue
        if not package.startswith(("k8s.io.api.", "k8s.io.apimachinery.")) or _UNSTABLE.search(package):
            continue
        for number, value in parts:
            if number == 4:
                for name, rows, is_entry in messages(package, value):
                    (entries if is_entry else found)[name] = rows
    for rows in found.values():
        for each in rows:
            if each[2] in entries:
                each[2], each[3] = {column[1]: column[2] for column in entries[each[2]]}["value"], 2
    OUT.write_text(json.dumps(dict(sorted(found.items())), separators=(",", ":")) + "\n")
    print(f"{len(found)} messages, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
