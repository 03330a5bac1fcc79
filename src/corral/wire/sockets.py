"""Sockets that survive uvloop.

When a connection fails after its socket was handed to uvloop (a TLS handshake that is refused, a timeout, a cancel),
uvloop closes the descriptor but leaves the Python socket believing that it is open (MagicStack/uvloop#738). Its
finalizer later closes whatever has got that number meanwhile: another connection, or a database. Clients that run on
uvloop pass `guarded` to aiohttp's `TCPConnector(socket_factory=...)`.
"""

import os
import socket
from typing import Any


class GuardedSocket(socket.socket):
    """Closes its descriptor only while it still is the one that it opened."""

    _identity: tuple[int, int] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._identity = _identity(self.fileno())

    def close(self) -> None:
        """Close, or merely let go if the descriptor was closed behind our back."""
        if self.fileno() >= 0 and _identity(self.fileno()) != self._identity:
            self.detach()
        super().close()

    def __del__(self) -> None:
        self.close()


def guarded(address: tuple[Any, ...]) -> socket.socket:
    """A non-blocking socket for an entry of `getaddrinfo`."""
    family, kind, protocol = address[:3]
    made = GuardedSocket(family, kind, protocol)
    made.setblocking(False)
    return made


def _identity(descriptor: int) -> tuple[int, int] | None:
    """What a descriptor refers to: each socket has an inode of its own."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino
