"""Starts and kills API servers: a process that has imported everything, so that a server costs a fork.

Usage: nursery.py DATA_DIR. It reads commands, one a line: `start` forks a server, which writes `step NAME` for each
step of its start and `ready PORT` when it listens; `kill` ends it by SIGKILL and is answered with `dead`, after which
nothing of that server comes any more. The end of the input ends the server and the nursery.
"""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import uvloop

from corral.app.config import CellConfig, prepare_data_dir
from corral.app.process import sole_owner
from corral.app.server import running_server
from corral.base.clock import SystemClock


def _say(text: str) -> None:
    # One write of a short line to a pipe arrives whole, whoever else writes (pipe(7), PIPE_BUF).
    os.write(1, f"{text}\n".encode())


async def _serve(config: CellConfig) -> None:
    async with running_server(
        config, SystemClock(), random.SystemRandom(), lambda step, _: _say(f"step {step}")
    ) as api:
        _say(f"ready {api.port}")
        await asyncio.Event().wait()


def _start(config: CellConfig) -> int:
    child = os.fork()
    if child:
        return child
    try:
        with sole_owner(config):
            uvloop.run(_serve(config))
    finally:
        os._exit(1)


def _end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def main() -> None:
    """Obey until the input ends."""
    config = CellConfig(Path(sys.argv[1]), host="127.0.0.1", port=0, agent=False)
    prepare_data_dir(config)
    child = 0
    try:
        for line in sys.stdin:
            if line == "start\n":
                child = _start(config)
            else:
                _end(child)
                child = 0
                _say("dead")
    finally:
        if child:
            _end(child)


if __name__ == "__main__":
    main()
