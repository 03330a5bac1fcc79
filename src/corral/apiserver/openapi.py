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
from corral.kinds.types import Obj

_BUILTIN_CACHE = (("Cache-Control", "no-cache, private"), ("Vary", "Accept"))


class OpenApi:
    """The documents under `/openapi`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._cache: dict[str, tuple[bytes, str]] = {}
        self._generation = registry.generation

    async def reply(self, call: Call, parts: list[str]) -> Reply:
        """The document at `/openapi/` + `parts`, in JSON.

        Raises:
            StatusError: 404; 406 if the client takes protobuf only.
        """
        if not _takes_json(call.accept):
            raise not_acceptable()
        if self._generation != self._registry.generation:
            self._cache.clear()
            self._generation = self._registry.generation
        path = "/".join(parts)
        found = self._cache.get(path)
        if found is None:
            body = await asyncio.to_thread(_encode, self._maker(parts))
            found = self._cache[path] = (body, f'"{hashlib.sha256(body).hexdigest().upper()}"')
        body, etag = found
        headers = (("ETag", etag), *_BUILTIN_CACHE)
        return Reply(304, b"", JSON, headers) if call.if_none_match == etag else Reply(200, body, JSON, headers)

    def _maker(self, parts: list[str]) -> Callable[[], Obj]:
        registry = self._registry
        match parts:
            case ["v2"]:
                return lambda: openapi.openapi_v2(registry)
            case ["v3"]:
                return lambda: openapi.openapi_v3_index(registry)
            case ["v3", "api", version] if version in registry.groups().get("", ()):
                return lambda: openapi.openapi_v3(registry, "", version)
            case ["v3", "apis", group, version] if version in registry.groups().get(group, ()):
                return lambda: openapi.openapi_v3(registry, group, version)
        raise path_not_found()


def _encode(make: Callable[[], Obj]) -> bytes:
    return orjson.dumps(make())


def _takes_json(accept: str) -> bool:
    media = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return any(text in ("", "*/*", "application/*", JSON) for text in media)
