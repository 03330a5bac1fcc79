"""OpenAPI documents over HTTP: rendered on first use, away from the event loop, and kept until the registry changes."""

import asyncio
import hashlib
from collections.abc import Callable

import orjson

from corral.apiserver.context import JSON, Call, Reply
from corral.apiserver.negotiation import not_acceptable
from corral.kinds import openapi
from corral.kinds.registry import Registry
from corral.kinds.status import path_not_found

_JSON_RANGES = frozenset({"", "*/*", "application/*", JSON})
_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
# What kubectl asks for is no media type (RFC 9110 has no "@" in one), so the answer says the other name.
_ASKED = frozenset({_PROTOBUF, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"})
_HEADERS = (("Cache-Control", "no-cache, private"), ("Vary", "Accept"))


class OpenApi:
    """The documents under `/openapi`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._cache: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._generation = registry.generation

    async def reply(self, call: Call, parts: list[str]) -> Reply:
        """The document at `/openapi/` + `parts`: in JSON, or v2 in the protobuf that kubectl up to 1.28 asks for.

        Raises:
            StatusError: 404; 406.
        """
        if self._generation != self._registry.generation:
            self._cache.clear()
            self._generation = self._registry.generation
        path = "/".join(parts)
        media = _media(call.accept, protobuf=path == "v2")
        found = self._cache.get((path, media))
        if found is None:
            body = await asyncio.to_thread(self._maker(parts, media))
            found = self._cache[path, media] = (body, f'"{hashlib.sha256(body).hexdigest().upper()}"')
        body, etag = found
        headers = (("ETag", etag), *_HEADERS)
        return Reply(304, b"", media, headers) if call.if_none_match == etag else Reply(200, body, media, headers)

    def _maker(self, parts: list[str], media: str) -> Callable[[], bytes]:
        registry = self._registry
        match parts:
            case ["v2"] if media == _PROTOBUF:
                return self._protobuf
            case ["v2"]:
                return lambda: orjson.dumps(openapi.openapi_v2(registry))
            case ["v3"]:
                return lambda: orjson.dumps(openapi.openapi_v3_index(registry))
            case ["v3", "api", version] if version in registry.groups().get("", ()):
                return lambda: orjson.dumps(openapi.openapi_v3(registry, "", version))
            case ["v3", "apis", group, version] if version in registry.groups().get(group, ()):
                return lambda: orjson.dumps(openapi.openapi_v3(registry, group, version))
        raise path_not_found()

    def _protobuf(self) -> bytes:
        from corral.apiserver.protobuf.openapi import encode_openapi_v2

        return encode_openapi_v2(openapi.openapi_v2(self._registry))


def _media(accept: str, *, protobuf: bool) -> str:
    for part in accept.split(","):
        media = part.partition(";")[0].strip().lower()
        if media in _JSON_RANGES:
            return JSON
        if media in _ASKED and protobuf:
            return _PROTOBUF
    raise not_acceptable()
