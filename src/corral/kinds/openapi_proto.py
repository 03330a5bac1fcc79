"""The Swagger 2 document as protobuf, the only form in which kubectl up to 1.28 reads it.

The messages are those of gnostic's `openapi.v2` (openapiv2/OpenAPIv2.proto). They are few and flat, so each is a table
from JSON members to field numbers and encoders, instead of generated code and a dependency.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import orjson

from corral.kinds.types import Obj

MEDIA_TYPE: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""The content type of the answer."""
ASKED_FOR: Final = (MEDIA_TYPE, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
"""What clients say in Accept; the older spelling is not a valid media type, so it is never answered with."""

Encoder: TypeAlias = Callable[[Any], bytes]
Fields: TypeAlias = Mapping[str, Encoder]
"""Member of the JSON document -> the encoder of its field, which knows the field's number."""

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2


def encode(document: Obj) -> bytes:
    """`document`, as `corral.kinds.openapi.openapi_v2` makes it, on the wire."""
    return _message(_DOCUMENT, document)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _text(number: int) -> Encoder:
    return lambda value: _field(number, str(value).encode())


def _texts(number: int) -> Encoder:
    return lambda values: b"".join(_field(number, str(value).encode()) for value in values)


def _flag(number: int) -> Encoder:
    return lambda value: _varint(number << 3 | _VARINT) + (b"\x01" if value else b"\x00")


def _whole(number: int) -> Encoder:
    # Negative integers take ten bytes, as two's complement of 64 bits.
    return lambda value: _varint(number << 3 | _VARINT) + _varint(int(value) & (1 << 64) - 1)


def _double(number: int) -> Encoder:
    return lambda value: _varint(number << 3 | _FIXED64) + struct.pack("<d", value)


def _any(value: Any) -> bytes:
    """`Any`: YAML text, of which JSON is a kind."""
    return _field(2, orjson.dumps(value))


def _anything(number: int) -> Encoder:
    return lambda value: _field(number, _any(value))


def _of(number: int, encoder: Encoder) -> Encoder:
    return lambda value: _field(number, encoder(value))


def _each(number: int, encoder: Encoder) -> Encoder:
    return lambda values: b"".join(_field(number, encoder(value)) for value in values)


def _named(number: int, encoder: Encoder) -> Encoder:
    """A mapping, as repeated pairs of name and value."""
    return lambda mapping: b"".join(
        _field(number, _field(1, name.encode()) + _field(2, encoder(value))) for name, value in mapping.items()
    )


def _message(fields: Fields, value: Obj, extensions: int = 0) -> bytes:
    return b"".join(_encoded(fields, value, extensions))


def _encoded(fields: Fields, value: Obj, extensions: int) -> Iterator[bytes]:
    for name, item in value.items():
        if name in fields:
            yield fields[name](item)
        elif extensions and name.startswith("x-"):
            yield _field(extensions, _field(1, name.encode()) + _field(2, _any(item)))


def _schema(value: Obj) -> bytes:
    return _message(_SCHEMA, value, 31)


def _additional(value: Any) -> bytes:
    return _flag(2)(value) if isinstance(value, bool) else _field(1, _schema(value))


def _type(value: Any) -> bytes:
    return _texts(1)([value] if isinstance(value, str) else value)


def _parameter(value: Obj) -> bytes:
    """`ParametersItem`: the body, or one of the other places."""
    if value.get("in") == "body":
        return _field(1, _field(1, _message(_BODY, value, 6)))
    in_path = value.get("in") == "path"
    sub_schema = _message(_IN_PATH if in_path else _IN_QUERY, value)
    return _field(1, _field(2, _field(4 if in_path else 3, sub_schema)))


def _response(value: Obj) -> bytes:
    return _field(1, _message(_RESPONSE, value, 5))


def _operation(value: Obj) -> bytes:
    return _message(_OPERATION, value, 13)


def _path_item(value: Obj) -> bytes:
    return _message(_PATH_ITEM, value, 10)


_SCHEMA: Final[Fields] = {
    "$ref": _text(1),
    "format": _text(2),
    "title": _text(3),
    "description": _text(4),
    "default": _anything(5),
    "multipleOf": _double(6),
    "maximum": _double(7),
    "exclusiveMaximum": _flag(8),
    "minimum": _double(9),
    "exclusiveMinimum": _flag(10),
    "maxLength": _whole(11),
    "minLength": _whole(12),
    "pattern": _text(13),
    "maxItems": _whole(14),
    "minItems": _whole(15),
    "uniqueItems": _flag(16),
    "maxProperties": _whole(17),
    "minProperties": _whole(18),
    "required": _texts(19),
    "enum": _each(20, _any),
    "additionalProperties": _of(21, _additional),
    "type": _of(22, _type),
    "items": _of(23, lambda value: _field(1, _schema(value))),
    "allOf": _each(24, _schema),
    "properties": _of(25, _named(1, _schema)),
}
_BODY: Final[Fields] = {
    "description": _text(1),
    "name": _text(2),
    "in": _text(3),
    "required": _flag(4),
    "schema": _of(5, _schema),
}
_IN_QUERY: Final[Fields] = {
    "required": _flag(1),
    "in": _text(2),
    "description": _text(3),
    "name": _text(4),
    "type": _text(6),
    "format": _text(7),
}
_IN_PATH: Final[Fields] = {
    "required": _flag(1),
    "in": _text(2),
    "description": _text(3),
    "name": _text(4),
    "type": _text(5),
    "format": _text(6),
}
_RESPONSE: Final[Fields] = {
    "description": _text(1),
    "schema": _of(2, lambda value: _field(1, _schema(value))),
}
_OPERATION: Final[Fields] = {
    "tags": _texts(1),
    "summary": _text(2),
    "description": _text(3),
    "operationId": _text(5),
    "produces": _texts(6),
    "consumes": _texts(7),
    "parameters": _each(8, _parameter),
    "responses": _of(9, _named(1, _response)),
    "schemes": _texts(10),
    "deprecated": _flag(11),
}
_PATH_ITEM: Final[Fields] = {
    "get": _of(2, _operation),
    "put": _of(3, _operation),
    "post": _of(4, _operation),
    "delete": _of(5, _operation),
    "options": _of(6, _operation),
    "head": _of(7, _operation),
    "patch": _of(8, _operation),
    "parameters": _each(9, _parameter),
}
_INFO: Final[Fields] = {"title": _text(1), "version": _text(2), "description": _text(3)}
_DOCUMENT: Final[Fields] = {
    "swagger": _text(1),
    "info": _of(2, lambda value: _message(_INFO, value)),
    "paths": _of(8, _named(2, _path_item)),
    "definitions": _of(9, _named(1, _schema)),
}
