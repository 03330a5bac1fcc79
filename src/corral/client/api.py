"""What a client is.

A `Transport` carries one request; there are two, HTTPS and in-process, and everything above them is the same.
`Client` (client.py) adds the conveniences; rooms depend on `Client`, tests may wrap any `Transport`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Literal, NamedTuple, Protocol

import msgspec

from corral.kinds.types import Obj

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class ApiRequest(msgspec.Struct, frozen=True):
    """One call on the API, in HTTP's terms."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    query: Mapping[str, str] = {}
    body: bytes = b""
    content_type: str = JSON
    accept: str = JSON


class ApiResponse(msgspec.Struct, frozen=True, gc=False):
    """What came back. An error is a response too, with a `Status` body; `Client` raises it as `StatusError`."""

    status: int
    body: bytes
    content_type: str = JSON
    date: str = ""
    """The server's time (HTTP's `Date`); empty within one process."""


class WatchEvent(NamedTuple):
    """One event of a watch; `object` of an `ERROR` is a `Status`. In one process, watchers share objects: read-only."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: Obj


class Transport(Protocol):
    """Carries requests as one user. Raises `OSError` (or a subclass) when the server cannot be reached."""

    async def call(self, request: ApiRequest) -> ApiResponse:
        """Perform one request."""

    def watch(self, request: ApiRequest) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        """Open a watch (`query` has `watch=true`); leaving the context closes it.

        Raises:
            StatusError: on entering, if the server refuses the watch.
        """

    async def close(self) -> None:
        """Give back connections."""
