"""A cell in the background: a process of its own session, whose parent waits for the word that it is ready."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

from corral.app.config import CellConfig

_READY_VARIABLE = "CORRAL_READY_FD"
_READY = b"\0"


@dataclass(frozen=True, slots=True)
class Launched:
    """A process in the background."""

    child: subprocess.Popen[bytes]
    ready: bool
    said: str
    """What it said until it was ready, or ended."""


def detached(config: CellConfig, arguments: list[str]) -> int:
    """Start `corral` with `arguments` in the background; returns 0 when it is ready, else its exit code.

    What it says until then is passed on; afterwards it writes to DIR/log/corral.log.
    """
    launched = launch(config, arguments)
    click.echo(launched.said, nl=False)
    # A child that ends well without having been ready has found that another one serves.
    return 0 if launched.ready else launched.child.wait()


def launch(config: CellConfig, arguments: list[str], within: Sequence[str] = ()) -> Launched:
    """Start `corral` with `arguments` in the background, as the command `within` starts programs, and wait until it
    is ready or has ended."""
    reader, writer = os.pipe()
    log = config.data_dir / "log" / "corral.log"
    environment = {**os.environ, _READY_VARIABLE: str(writer)}
    with log.open("ab") as output:
        start = output.tell()
        child = subprocess.Popen(
            [*within, sys.executable, "-m", "corral", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[writer],
            env=environment,
            start_new_session=True,
            cwd="/",
        )
    os.close(writer)
    # The pipe ends without a word when the child does.
    ready = os.read(reader, 1) == _READY
    os.close(reader)
    with log.open("rb") as written:
        written.seek(start)
        return Launched(child, ready, written.read().decode(errors="replace"))


def tell_ready() -> None:
    """Tell the waiting parent, if there is one."""
    descriptor = os.environ.pop(_READY_VARIABLE, "")
    if descriptor:
        os.write(int(descriptor), _READY)
        os.close(int(descriptor))
