"""Short-lived helper programs: run, feed, read, and turn a failure into words."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program left: its exit code and its output."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def words(self) -> str:
        """What it said about its failure, on one line."""
        text = (self.stderr or self.stdout).decode(errors="replace").strip()
        return " ".join(text.split()) or f"exit code {self.code}"


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A small environment: nothing of the agent's own leaks into what it starts."""
    base = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": os.environ.get("HOME", "/root")}
    base.update({name: os.environ[name] for name in _PROXIES if name in os.environ})
    return {**base, **(extra or {})}


_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")


async def run(argv: Sequence[str], *, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Finished:
    """Run `argv` to its end; when the caller is cancelled, the program is killed.

    Raises:
        FileNotFoundError: there is no such program.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(env),
    )
    try:
        stdout, stderr = await process.communicate(stdin or None)
    except asyncio.CancelledError:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            await process.wait()
        raise
    return Finished(process.returncode if process.returncode is not None else -1, stdout, stderr)
