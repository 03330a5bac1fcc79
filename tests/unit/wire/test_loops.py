"""What a connection that was given up leaves behind in the loop."""

import asyncio
import logging
from typing import Any

import pytest

from corral.wire.loops import run


async def _complain(*, closed: bool) -> None:
    """Tell the loop what uvloop's TLS tells it when it could not write to its transport."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    transport: Any
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    if closed:
        transport.abort()
        await asyncio.sleep(0.01)
        with pytest.raises(RuntimeError, match="handler is closed") as failed:
            transport.write_eof()
        error: Exception = failed.value
    else:
        error = RuntimeError("a defect")
    loop.call_exception_handler({"message": "Fatal error", "exception": error, "transport": transport})
    transport.abort()
    server.close()


def test_a_closed_connection_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    run(_complain(closed=True))
    assert [record.name for record in caplog.records if "handler is closed" in record.getMessage()] == [
        "corral.wire.loops"
    ]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_other_errors_are_told(caplog: pytest.LogCaptureFixture) -> None:
    run(_complain(closed=False))
    assert "a defect" in caplog.text
