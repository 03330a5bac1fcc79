"""The OpenAPI v2 document in protobuf, as gnostic's `openapi.v2.Document`: kubectl up to 1.28 takes no other form.

Written is what kubectl reads: definitions, and of each operation its query parameters and extensions. Field numbers are
those of gnostic's OpenAPIv2.proto.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from corral.kinds.types import Obj

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}
_REF, _FORMAT, _DESCRIPTION, _REQUIRED = 1, 2, 4, 19
_ADDITIONAL, _TYPE, _ITEMS, _PROPERTIES, _SCHEMA_EXTENSION = 21, 22, 23, 25, 31
_QUERY = {"description": 3, "name": 4, "type": 6, "format": 7}


def encode_openapi_v2(document: Obj) -> bytes:
    """The bytes of a whole document."""
    info = document["info"]
    paths = [_named(2, name, _path(item)) for name, item in document["paths"].items()]
    definitions = [_named(1, name, _schema(schema)) for name, schema in document["definitions"].items()]
    return b"".join(
        (
            _text(1, document["swagger"]),
            _bytes(2, _text(1, info["title"]) + _text(2, info["version"])),
            _bytes(8, b"".join(paths)),
            _bytes(9, b"".join(definitions)),
        )
    )


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode())


def _true(number: int) -> bytes:
    return _varint(number << 3) + b"\x01"


def _named(number: int, name: str, value: bytes) -> bytes:
    """One entry of a map, which gnostic writes as a list of names and values."""
    return _bytes(number, _text(1, name) + _bytes(2, value))


def _extensions(number: int, values: Mapping[str, Any]) -> Iterator[bytes]:
    """`x-...` fields; their values are YAML, which JSON is."""
    for name, value in values.items():
        if name.startswith("x-"):
            yield _named(number, name, _bytes(2, orjson.dumps(value)))


def _path(item: Obj) -> bytes:
    parts = [_bytes(_METHODS[method], _operation(item[method])) for method in item if method in _METHODS]
    parts += _extensions(10, item)
    return b"".join(parts)


def _operation(operation: Obj) -> bytes:
    parts = [_text(5, operation["operationId"])] if "operationId" in operation else []
    queries: Iterable[Obj] = (one for one in operation.get("parameters", ()) if one.get("in") == "query")
    # ParametersItem.parameter, Parameter.non_body_parameter, NonBodyParameter.query_parameter_sub_schema
    parts += [_bytes(8, _bytes(1, _bytes(2, _bytes(3, _query(query))))) for query in queries]
    parts += _extensions(13, operation)
    return b"".join(parts)


def _query(parameter: Obj) -> bytes:
    return _text(2, "query") + b"".join(
        _text(number, parameter[name]) for name, number in _QUERY.items() if parameter.get(name)
    )


def _schema(schema: Any) -> bytes:
    parts: list[bytes] = []
    for name, number in (("$ref", _REF), ("format", _FORMAT), ("description", _DESCRIPTION)):
        if schema.get(name):
            parts.append(_text(number, schema[name]))
    parts += [_text(_REQUIRED, name) for name in schema.get("required") or ()]
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        parts.append(_bytes(_ADDITIONAL, _bytes(1, _schema(additional))))
    elif additional:
        parts.append(_bytes(_ADDITIONAL, _true(2)))
    if schema.get("type"):
        parts.append(_bytes(_TYPE, _text(1, schema["type"])))
    if "items" in schema:
        parts.append(_bytes(_ITEMS, _bytes(1, _schema(schema["items"]))))
    if schema.get("properties"):
        entries = (_named(1, name, _schema(value)) for name, value in schema["properties"].items())
        parts.append(_bytes(_PROPERTIES, b"".join(entries)))
    parts += _extensions(_SCHEMA_EXTENSION, schema)
    return b"".join(parts)
