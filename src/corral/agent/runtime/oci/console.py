"""Receiving the terminal that an OCI runtime made: it sends the master's descriptor over a unix socket.

(crun also copies between two terminals itself, but loses what a short program writes just before it ends.)
"""

import asyncio
import os
import socket
from pathlib import Path


class ConsoleSocket:
    """Listens in `directory`; `path` is short however long the directory's name is."""

    def __init__(self, directory: Path) -> None:
        self._directory = os.open(directory, os.O_PATH | os.O_CLOEXEC)
        self.path = f"/proc/{os.getpid()}/fd/{self._directory}/console"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._listener.setblocking(False)
        self._listener.bind(self.path)
        self._listener.listen(1)

    async def receive(self) -> int:
        """The descriptor of the terminal's master."""
        connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        with connection:
            connection.setblocking(True)
            _, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, connection, 256, 1)
        if not descriptors:
            raise ConnectionResetError("the OCI runtime sent no terminal")
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]

    def close(self) -> None:
        self._listener.close()
        os.close(self._directory)
