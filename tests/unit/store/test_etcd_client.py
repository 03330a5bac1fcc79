"""The etcd client and servers that are none."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from corral.store.etcd.address import parse
from corral.store.etcd.client import EtcdClient
from corral.store.protocol import Unavailable


@pytest.mark.parametrize("answer", [b"<html>bad gateway</html>\n", b"7\n", b'{"error": {"message": "no leader"}}\n'])
async def test_a_watch_that_something_else_answers_is_one_to_try_again(answer: bytes) -> None:
    async def reply(request: web.Request) -> web.Response:
        return web.Response(status=502, body=answer)

    app = web.Application()
    app.router.add_post("/v3/watch", reply)
    async with TestServer(app) as server:
        client = EtcdClient(parse(f"etcd://127.0.0.1:{server.port}"))
        await client.open()
        async with client.watch(1) as batches:
            with pytest.raises(Unavailable):
                await anext(batches)
        await client.close()
