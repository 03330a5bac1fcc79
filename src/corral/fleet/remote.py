"""The server's own command about a machine that does not answer: a power switch, a cloud's API.

It is configured on the server, not in the API: who may write rules of repair is not thereby root on the servers.
"""

import asyncio
import ipaddress
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

from corral.base.errors import CorralError

_MOST_OUTPUT = 4096


class RemoteCommand:
    """Runs the command that `configured` gives, with `{machine}` and `{address}` filled in."""

    def __init__(self, configured: Callable[[], Sequence[str]]) -> None:
        self._configured = configured

    async def __call__(self, machine: str, address: str) -> str:
        """Run it to its end; returns the last line that it printed. It is killed with all it started when cancelled.

        Raises:
            CorralError, OSError: it is not configured, or it failed.
        """
        command = filled(self._configured(), machine, address)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        lines = output[-_MOST_OUTPUT:].decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        if process.returncode:
            raise CorralError(f"{command[0]} ended with {process.returncode}: {said}".rstrip(": "))
        return said or f"{command[0]} ended well"


def filled(command: Sequence[str], machine: str, address: str) -> list[str]:
    """The command for a machine.

    Raises:
        CorralError: none is configured, or it asks for an address and the machine has none.
    """
    if not command:
        raise CorralError("no remote command is configured on this server (`remote` in DATA_DIR/repair.yaml)")
    if any("{address}" in word for word in command):
        try:
            # The machine itself says it: a word that some program takes for an option is not let through.
            ipaddress.ip_address(address)
        except ValueError as error:
            raise CorralError(f"the address of {machine} is not an IP address: {address[:60]!r}") from error
    return [word.replace("{machine}", machine).replace("{address}", address) for word in command]
