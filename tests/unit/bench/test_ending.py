"""Whoever is told to end cleans up first, in the loop and out of it, also where a shell has Ctrl-C ignored."""

import signal
import subprocess
import sys

import pytest

PLAIN = "time.sleep(60)"
LOOP = "uvloop.run(asyncio.sleep(60))"
PROGRAM = """
import asyncio, time, uvloop
from corral.testing.ending import end_as_by_ctrl_c
end_as_by_ctrl_c()
try:
    print("here", flush=True)
    {wait}
finally:
    print("clean", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("wait", [PLAIN, LOOP])
def test_who_is_told_to_end_cleans_up(wait: str, number: signal.Signals) -> None:
    ignoring = f"import os, signal; signal.signal({int(number)}, signal.SIG_IGN); os.execv"
    command = [sys.executable, "-c", PROGRAM.format(wait=wait)]
    background = [sys.executable, "-c", f"{ignoring}({sys.executable!r}, {command!r})"]
    with subprocess.Popen(background, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        assert process.communicate(timeout=20)[0] == "clean\n"
    assert process.returncode == -signal.SIGINT
