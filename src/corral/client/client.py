"""The verbs, over any transport.

`Client` turns verbs into requests and `Status` bodies into `StatusError`. It keeps no state and never retries: a caller
that wants retries is a controller, and its runner has them.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

import orjson

from corral.client.api import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    ApiRequest,
    ApiResponse,
    Transport,
    WatchEvent,
)
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, Resource

Propagation = Literal["", "Background", "Foreground", "Orphan"]


class Client:
    """The API as one user, on whatever transport.

    Every call raises `StatusError` if the server refuses and `OSError` if it cannot be reached. Objects that a call
    returns belong to the caller; objects passed in are not changed.
    """

    def __init__(self, transport: Transport, *, field_manager: str = "") -> None:
        self.transport = transport
        self.field_manager = field_manager

    async def get(self, resource: Resource, name: str, namespace: str = "", *, subresource: str = "") -> Obj:
        """One object, or its subresource."""
        request = ApiRequest("GET", resource.path(namespace, name, subresource))
        return await self._call(request)

    async def find(self, resource: Resource, name: str, namespace: str = "") -> Obj | None:
        """One object; None if there is none."""
        try:
            return await self.get(resource, name, namespace)
        except StatusError as error:
            if error.code == 404:
                return None
            raise

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        limit: int = 0,
        continue_token: str = "",
    ) -> Obj:
        """A list object: `items`, and `metadata.resourceVersion` to watch from.

        With `limit` it may be a page; `metadata.continue` is then the `continue_token` of the next one.
        """
        query = _query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            resourceVersion=resource_version,
            limit=str(limit) if limit else "",
            **{"continue": continue_token},
        )
        return await self._call(ApiRequest("GET", resource.path(namespace), query))

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = True,
        timeout: int = 0,
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        """Events after `resource_version`; the server ends the watch after `timeout` seconds (0: its own limit)."""
        query = _query(
            watch="true",
            resourceVersion=resource_version,
            labelSelector=label_selector,
            fieldSelector=field_selector,
            allowWatchBookmarks="true" if bookmarks else "",
            timeoutSeconds=str(timeout) if timeout else "",
        )
        return self.transport.watch(ApiRequest("GET", resource.path(namespace), query))

    async def create(self, resource: Resource, obj: Obj) -> Obj:
        """Create `obj` in the namespace that its metadata names."""
        path = resource.path(obj["metadata"].get("namespace", ""))
        return await self._write(resource, "", ApiRequest("POST", path, self._managed(), orjson.dumps(obj)))

    async def create_subresource(
        self, resource: Resource, name: str, namespace: str, subresource: str, body: Obj
    ) -> Obj:
        """POST to a subresource: `binding`, `eviction`, `token`."""
        request = ApiRequest("POST", resource.path(namespace, name, subresource), self._managed(), orjson.dumps(body))
        return await self._write(resource, subresource, request)

    async def update(self, resource: Resource, obj: Obj, subresource: str = "") -> Obj:
        """Replace an object (or its `status`, `finalize`, `scale`); its resourceVersion, if there, must be current."""
        metadata = obj["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"], subresource)
        return await self._write(resource, subresource, ApiRequest("PUT", path, self._managed(), orjson.dumps(obj)))

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Obj | Sequence[Obj],
        namespace: str = "",
        kind: str = MERGE_PATCH,
        subresource: str = "",
    ) -> Obj:
        """Patch an object; `kind` is one of the content types in `corral.client.api`, a sequence is a JSON patch."""
        if not isinstance(patch, dict):
            kind = JSON_PATCH
        path = resource.path(namespace, name, subresource)
        request = ApiRequest("PATCH", path, self._managed(), orjson.dumps(patch), kind)
        return await self._write(resource, subresource, request)

    async def apply(self, resource: Resource, obj: Obj, *, force: bool = False, subresource: str = "") -> Obj:
        """Server-side apply of `obj` as this client's field manager."""
        metadata = obj["metadata"]
        path = resource.path(metadata.get("namespace", ""), metadata["name"], subresource)
        query = {**self._managed(), "force": "true" if force else "false"}
        return await self._write(
            resource, subresource, ApiRequest("PATCH", path, query, orjson.dumps(obj), APPLY_PATCH)
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str = "",
        *,
        propagation: Propagation = "",
        uid: str = "",
        resource_version: str = "",
        grace: int | None = None,
    ) -> Obj:
        """Delete one object, if it still has `uid` and `resource_version` where given; `grace` is in seconds.

        Returns the object as it goes (with a deletionTimestamp if it lingers) or a `Status`.
        """
        body = orjson.dumps(_delete_options(propagation, grace, uid, resource_version))
        return await self._write(resource, "", ApiRequest("DELETE", resource.path(namespace, name), {}, body))

    async def delete_collection(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", propagation: Propagation = ""
    ) -> Obj:
        """Delete all objects of a collection that match."""
        body = orjson.dumps(_delete_options(propagation, None, "", ""))
        query = _query(labelSelector=label_selector)
        return await self._write(resource, "", ApiRequest("DELETE", resource.path(namespace), query, body))

    async def raw(self, path: str, *, query: Mapping[str, str] | None = None, accept: str = "application/json") -> Obj:
        """GET any path that answers in JSON: discovery, version, health details."""
        return await self._call(ApiRequest("GET", path, query or {}, accept=accept))

    async def close(self) -> None:
        """Give back the transport's connections."""
        await self.transport.close()

    def _managed(self) -> dict[str, str]:
        return {"fieldManager": self.field_manager} if self.field_manager else {}

    async def _write(self, resource: Resource, subresource: str, request: ApiRequest) -> Obj:
        """Every write passes here, so that a subclass can watch or refuse it."""
        return await self._call(request)

    async def _call(self, request: ApiRequest) -> Obj:
        return decode(await self.transport.call(request))


def decode(response: ApiResponse) -> Obj:
    """The object in a response.

    Raises:
        StatusError: the response is an error, with the server's `Status` or one made of its code and text.
    """
    try:
        body = orjson.loads(response.body) if response.body else {}
    except orjson.JSONDecodeError:
        body = None
    if response.status >= 400:
        if isinstance(body, dict) and body.get("kind") == "Status":
            raise StatusError.from_status(body)
        text = response.body[:300].decode(errors="replace").strip()
        raise StatusError(response.status, _REASONS.get(response.status, "Unknown"), text or "no message")
    if not isinstance(body, dict):
        raise StatusError(500, "InternalError", "cannot read the server's answer: it is not a JSON object")
    return body


_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


def _query(**parameters: str) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value}


def _delete_options(propagation: Propagation, grace: int | None, uid: str, resource_version: str) -> Obj:
    options: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1"}
    if propagation:
        options["propagationPolicy"] = propagation
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    preconditions = _query(uid=uid, resourceVersion=resource_version)
    if preconditions:
        options["preconditions"] = preconditions
    return options
