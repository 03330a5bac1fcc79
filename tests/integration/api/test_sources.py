"""Uploads belong to the namespace that they were sent to."""

import hashlib
import ssl

import aiohttp
import pytest
from yarl import URL

from .conftest import RunningServer

BODY = b"a program of somebody's"
DIGEST = hashlib.sha256(BODY).hexdigest()


def url(api: RunningServer, namespace: str, name: str = DIGEST) -> str:
    return f"{api.url}/apis/corral.dev/v1/namespaces/{namespace}/sources/{name}"


@pytest.fixture
def context(api: RunningServer) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(api.ca))
    context.load_cert_chain(api.cert, api.key)
    return context


async def test_a_digest_opens_nothing_in_another_namespace(api: RunningServer, context: ssl.SSLContext) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        assert (await session.put(url(api, "ours"), data=BODY)).status == 201
        assert (await session.put(url(api, "ours"), data=BODY)).status == 200
        assert await (await session.get(url(api, "ours"))).read() == BODY
        for method in ("GET", "HEAD"):
            assert (await session.request(method, url(api, "theirs"))).status == 404
        assert (await session.put(url(api, "theirs"), data=BODY)).status == 201
        assert (await session.put(url(api, "theirs", "0" * 64), data=BODY)).status == 400


@pytest.mark.parametrize("namespace", ["..", "%2e%2e", "a%2f..%2fours", ".upload-x", "A", "a.b"])
async def test_a_namespace_is_no_path(api: RunningServer, context: ssl.SSLContext, namespace: str) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        assert (await session.put(URL(url(api, namespace), encoded=True), data=BODY)).status in (400, 404, 405)
