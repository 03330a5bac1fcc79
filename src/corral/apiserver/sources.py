"""Uploaded programs: content-addressed archives, kept as files under the data directory, each below its namespace.

The name of an upload is the SHA-256 of its bytes, so that uploading it twice costs a HEAD and a broken upload cannot be
mistaken for a whole one. It belongs to the namespace that it was sent to: a digest is no secret (it stands in pods
and events), so knowing it must not open, nor even tell of, what others have sent.

An upload lies on the server that took it and, before it is acknowledged, on one more that lives. Any other server of
the cell that is asked for it fetches it from there, once.
"""

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from aiohttp import web

from corral.apiserver.auth.api import User
from corral.kinds.status import StatusError, bad_request, not_found, too_large, unavailable

LIMIT = 1 << 30
"""Bytes of one upload."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_CHUNK = 1 << 20


class Peers(Protocol):
    """The other servers of a cell."""

    def source(self, namespace: str, digest: str) -> AbstractAsyncContextManager[AsyncIterator[bytes] | None]:
        """The bytes of an upload that one of them has; None if none has, or can be reached."""

    async def keep(self, namespace: str, digest: str) -> None:
        """Have one of them fetch an upload from here, if one can."""


class Sources:
    """The uploads of a cell. `directory` is made if it is missing."""

    def __init__(self, directory: Path, peers: Peers | None = None, *, limit: int = LIMIT) -> None:
        self._directory = directory
        self._peers = peers
        self._limit = limit
        self._fetching = asyncio.Lock()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        # What an interrupted upload left.
        for partial in directory.glob(".upload-*"):
            partial.unlink(missing_ok=True)

    def path(self, namespace: str, digest: str) -> Path:
        """The file of an upload.

        Raises:
            StatusError: 400, not a digest; 404, not uploaded to this namespace.
        """
        path = self._place(namespace, digest)
        if not path.is_file():
            raise not_found("corral.dev", "sources", digest)
        return path

    async def find(self, namespace: str, digest: str) -> Path:
        """The file of an upload, fetched from another server if need be.

        Raises:
            StatusError: 400, not a digest; 404, not uploaded to this namespace, or its server does not answer; 503,
                that one broke off; 507.
        """
        place = self._place(namespace, digest)
        if self._peers is not None and not place.is_file():
            async with self._fetching:
                if not place.is_file():
                    await self._fetch(self._peers, namespace, digest)
        return self.path(namespace, digest)

    async def _fetch(self, peers: Peers, namespace: str, digest: str) -> None:
        try:
            async with peers.source(namespace, digest) as chunks:
                if chunks is not None:
                    await self._store(chunks, namespace, digest)
        except ConnectionError as error:
            raise unavailable(f"cannot fetch the source from another server: {error}") from error

    def _place(self, namespace: str, digest: str) -> Path:
        if not _NAMESPACE.fullmatch(namespace):
            raise bad_request(f"cannot use {namespace!r} as a namespace: it must be a DNS label")
        if not _DIGEST.fullmatch(digest):
            raise bad_request(
                f"cannot use {digest!r} as the name of a source: it must be a SHA-256 in hexadecimal digits"
            )
        return self._directory / namespace / digest

    async def handle(self, request: web.Request, user: User, namespace: str, name: str) -> web.StreamResponse:
        """PUT, GET and HEAD of `/apis/corral.dev/v1/namespaces/{namespace}/sources/{name}`.

        A GET with `local=true` is another server's: it is answered from this one's own disk. So is a HEAD, which asks
        whether to upload: that must not wait for a server that is down. With `keep=true` it is another server's, too:
        this one is to have a copy.

        Raises:
            StatusError: 400, 404, 413.
        """
        if request.method == "PUT":
            self._place(namespace, name)
            if (request.content_length or 0) > self._limit:
                raise too_large(self._limit)
            created = await self._store(request.content.iter_chunked(_CHUNK), namespace, name)
            if self._peers is not None:
                await self._peers.keep(namespace, name)
            return web.Response(status=201 if created else 200)
        if "keep" in request.query or (request.method == "GET" and "local" not in request.query):
            await self.find(namespace, name)
        path = self.path(namespace, name)
        if request.method == "HEAD":
            # Whoever looks is about to use it: the collector must not take it now.
            await asyncio.to_thread(os.utime, path)
            size = (await asyncio.to_thread(path.stat)).st_size
            return web.Response(headers={"Content-Length": str(size)}, content_type="application/gzip")
        return web.FileResponse(path, headers={"Content-Type": "application/gzip"})

    async def _store(self, chunks: AsyncIterable[bytes], namespace: str, digest: str) -> bool:
        place = self._place(namespace, digest)
        descriptor, text = tempfile.mkstemp(prefix=".upload-", dir=self._directory)
        partial = Path(text)
        try:
            with os.fdopen(descriptor, "wb") as file:
                actual = await self._receive(chunks, file.fileno())
                if actual != digest:
                    raise bad_request(f"cannot store the source: its SHA-256 is {actual}, not {digest}; send it again")
                await asyncio.to_thread(os.fsync, file.fileno())
            return await asyncio.to_thread(_publish, partial, place)
        finally:
            partial.unlink(missing_ok=True)

    async def _receive(self, chunks: AsyncIterable[bytes], descriptor: int) -> str:
        digest, size = hashlib.sha256(), 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self._limit:
                raise too_large(self._limit)
            digest.update(chunk)
            await asyncio.to_thread(_write_all, descriptor, chunk)
        return digest.hexdigest()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        raise StatusError(
            507, "InsufficientStorage", f"cannot store the source: {error.strerror}; free some space"
        ) from error


def _publish(partial: Path, place: Path) -> bool:
    """Give a whole, synced file its name; False if it was there already."""
    fresh = not place.exists()
    place.parent.mkdir(mode=0o700, exist_ok=True)
    partial.replace(place)
    for directory in (place.parent, place.parent.parent):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return fresh
