"""`corral join --ssh`: let another machine join, over the system's ssh.

Nothing is installed there: Corral has to be on the machine, and if it is not, the error says so. The token travels on
stdin, so that neither machine's list of processes shows it. Unless the line of `corral token create` is given, the
token is made for this purpose alone and withdrawn afterwards.
"""

import asyncio
import os
import shlex
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from corral.base.errors import CorralError
from corral.cli import terminal
from corral.cli.session import connect
from corral.cli.token import issue, place, withdraw

SSH_VARIABLE: Final = "CORRAL_SSH_COMMAND"
"""What to use instead of `ssh`, as GIT_SSH_COMMAND is for git: words, no shell."""
_TOKEN_SECONDS: Final = 600
_NO_SUCH_PROGRAM: Final = 127
_NOT_ALLOWED: Final = 77
_SSH_FAILED: Final = 255
_PROBE: Final = (
    "PATH=$PATH:/usr/local/bin:/root/.local/bin; export PATH; "
    f"command -v corral || exit {_NO_SUCH_PROGRAM}; "
    f'[ "$(id -u)" = 0 ] || {{ sudo -n true && echo sudo; }} || exit {_NOT_ALLOWED}'
)


@dataclass(frozen=True, slots=True)
class Invitation:
    """What the other machine is to join with."""

    server: str
    token: str
    pin: str


def join_over_ssh(destination: str, given: Invitation | None, options: Sequence[str]) -> int:
    """Let the machine of `destination` ([USER@]HOST or ssh://[USER@]HOST[:PORT]) join; gives `corral join`'s exit code.

    Args:
        given: made for the purpose if None, by an administrator's kubeconfig.
        options: of the `corral join` there.

    Raises:
        CorralError: it cannot be reached, has no Corral, or the cell makes no token.
    """
    if not destination or destination.startswith("-"):
        raise CorralError(f"cannot join {destination!r}: it is no destination of ssh", "write --ssh USER@HOST")
    program = _look(destination)
    if given is not None:
        return _run(destination, program, given, options)
    return asyncio.run(_invite_and_run(destination, program, options))


async def _invite_and_run(destination: str, program: Sequence[str], options: Sequence[str]) -> int:
    async with _invitation(destination) as made:
        return await asyncio.to_thread(_run, destination, program, made, options)


@asynccontextmanager
async def _invitation(destination: str) -> AsyncIterator[Invitation]:
    async with connect(None, os.environ.get("CORRAL_DATA_DIR"), None) as session:
        server, pin = await place(session)
        token = await issue(session.client, _TOKEN_SECONDS, f"corral join --ssh {destination}")
        try:
            yield Invitation(server, token, pin)
        finally:
            await withdraw(session.client, token)


def _look(destination: str) -> list[str]:
    """The words with which Corral is called there, as root.

    Raises:
        CorralError: there is no way.
    """
    done = subprocess.run(
        [*_ssh(destination), f"sh -c {shlex.quote(_PROBE)}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode == _NO_SUCH_PROGRAM:
        raise CorralError(
            f"cannot join {destination}: Corral is not installed there",
            "install it there (pipx install corral, or as you did here), so that `ssh HOST corral version` works",
        )
    if done.returncode == _NOT_ALLOWED:
        raise CorralError(
            f"cannot join {destination}: that user is not root and has no sudo without a password",
            f"use root@{destination.rpartition('@')[2]}, or allow that user `sudo -n corral`",
        )
    if done.returncode:
        raise CorralError(
            f"cannot reach {destination}: ssh ended with {done.returncode}",
            f"see what ssh said above; this must work: ssh {destination} true",
        )
    words = done.stdout.decode().split()
    return ["sudo", "-n", words[0]] if words[1:] == ["sudo"] else words[:1]


def _run(destination: str, program: Sequence[str], invitation: Invitation, options: Sequence[str]) -> int:
    join = ["join", invitation.server, "--token", "-", "--ca-hash", invitation.pin, "--detach", *options]
    terminal.note(f"{destination}: {' '.join(program)} join {invitation.server}")
    command = [*_ssh(destination), shlex.join([*program, *join])]
    code = subprocess.run(command, input=f"{invitation.token}\n".encode(), check=False).returncode
    if code == _SSH_FAILED:
        raise CorralError(f"cannot tell whether {destination} joined: ssh failed", "see: corral machine ls")
    return code


def _ssh(destination: str) -> list[str]:
    return [*shlex.split(os.environ.get(SSH_VARIABLE) or "ssh"), "-o", "ConnectTimeout=10", "--", destination]
