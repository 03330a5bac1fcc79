"""The protobuf form of the Swagger document, read back field by field."""

from collections.abc import Iterator
from typing import Any

import orjson

from corral.kinds.openapi_proto import encode


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and raw values of a message."""
    at = 0

    def varint() -> int:
        nonlocal at
        shift = value = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            length = 8 if key & 7 == 1 else varint()
            yield key >> 3, message[at : at + length]
            at += length


def at(message: bytes, *path: int) -> Any:
    """The first value at a path of field numbers."""
    value: Any = message
    for number in path:
        value = next(found for field, found in fields(value) if field == number)
    return value


DOCUMENT = {
    "swagger": "2.0",
    "info": {"title": "Kubernetes", "version": "v1"},
    "paths": {
        "/api/v1/pods/{name}": {
            "patch": {
                "operationId": "patchPod",
                "consumes": ["a", "b"],
                "parameters": [
                    {"name": "body", "in": "body", "required": True, "schema": {"$ref": "#/definitions/Pod"}},
                    {"name": "dryRun", "in": "query", "type": "string"},
                ],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/Pod"}}},
                "x-kubernetes-action": "patch",
            },
            "parameters": [{"name": "name", "in": "path", "required": True, "type": "string"}],
        }
    },
    "definitions": {
        "Pod": {
            "type": "object",
            "required": ["spec"],
            "properties": {
                "ports": {"type": "array", "items": {"type": "integer", "minimum": 1, "maxLength": 300}},
                "labels": {"type": "object", "additionalProperties": {"type": "string", "default": "x"}},
                "open": {"type": "object", "additionalProperties": True, "enum": ["a", "b"]},
            },
            "x-kubernetes-group-version-kind": [{"kind": "Pod"}],
        }
    },
}


def test_document() -> None:
    encoded = encode(DOCUMENT)
    assert at(encoded, 1) == b"2.0"
    assert at(encoded, 2, 1) == b"Kubernetes"
    assert at(encoded, 8, 2, 1) == b"/api/v1/pods/{name}"


def test_operations_and_parameters() -> None:
    item = at(encode(DOCUMENT), 8, 2, 2)
    operation = at(item, 8)
    assert at(operation, 5) == b"patchPod"
    assert [value for number, value in fields(operation) if number == 7] == [b"a", b"b"]
    body, query = (value for number, value in fields(operation) if number == 8)
    assert at(body, 1, 1, 2) == b"body"
    assert at(body, 1, 1, 4) == 1
    assert at(body, 1, 1, 5, 1) == b"#/definitions/Pod"
    assert at(query, 1, 2, 3, 4) == b"dryRun"
    assert at(item, 9, 1, 2, 4, 4) == b"name"
    assert at(operation, 9, 1, 1) == b"200"
    assert at(operation, 9, 1, 2, 1, 2, 1, 1) == b"#/definitions/Pod"
    assert at(operation, 13, 1) == b"x-kubernetes-action"
    assert orjson.loads(at(operation, 13, 2, 2)) == "patch"


def test_schemas() -> None:
    pod = at(encode(DOCUMENT), 9, 1, 2)
    assert at(pod, 22, 1) == b"object"
    assert at(pod, 19) == b"spec"
    assert orjson.loads(at(pod, 31, 2, 2)) == [{"kind": "Pod"}]
    ports, labels, open_ = (at(value, 2) for number, value in fields(at(pod, 25)) if number == 1)
    assert at(ports, 23, 1, 22, 1) == b"integer"
    assert at(ports, 23, 1, 11) == 300
    assert orjson.loads(at(labels, 21, 1, 5, 2)) == "x"
    assert at(open_, 21, 2) == 1
    assert [orjson.loads(at(value, 2)) for number, value in fields(open_) if number == 20] == ["a", "b"]
