"""`POST /images/load` on the agent: take in an image archive that a person sends.

The archive is an OCI archive, a docker archive or a (packed) OCI layout directory; which one is for the image store to
find out. It is spooled next to the images, never held in memory, and bounded.
"""

import asyncio
import os
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import orjson
from aiohttp import web

from corral.agent.runtime.api import Images, RuntimeFailure
from corral.kinds.status import StatusError, bad_request, too_large

LIMIT = 32 << 30
"""Bytes of one archive."""


def image_routes(images: Images, directory: Path) -> Sequence[web.RouteDef]:
    """The routes, for an image store whose spool is in `directory`."""

    async def load(request: web.Request) -> web.StreamResponse:
        try:
            with tempfile.TemporaryDirectory(prefix=".load-", dir=directory) as spool:
                archive = await _receive(request, Path(spool) / "image.tar")
                image = await images.load(str(archive), request.query.get("reference", ""))
        except RuntimeFailure as error:
            refused = bad_request(error.message)
            return web.json_response(refused.status(), status=refused.code)
        except StatusError as error:
            return web.json_response(error.status(), status=error.code)
        body = {"id": image.id, "references": list(image.references), "size": image.size}
        return web.Response(body=orjson.dumps(body), content_type="application/json", status=201)

    return [web.post("/images/load", load)]


async def _receive(request: web.Request, archive: Path) -> Path:
    """The archive on disk, or the layout directory that was packed in it."""
    size = 0
    with archive.open("wb") as file:
        async for chunk in request.content.iter_chunked(1 << 20):
            size += len(chunk)
            if size > LIMIT:
                raise too_large(LIMIT)
            await asyncio.to_thread(os.write, file.fileno(), chunk)
    if not tarfile.is_tarfile(archive):
        raise bad_request("cannot load the image: what was sent is not a tar archive; save it with `skopeo copy` first")
    return archive
