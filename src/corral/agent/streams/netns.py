"""Connecting to a port from inside a pod: a socket belongs to the network namespace of the thread that made it."""

import asyncio
import ctypes
import os
import socket
from concurrent.futures import ThreadPoolExecutor

_CLONE_NEWNET = 0x40000000
_LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


async def connect(namespace: str, port: int) -> socket.socket:
    """A connected, non-blocking TCP socket to `port` on the loopback of the namespace at the path `namespace` (empty:
    the host's). IPv4 is tried first, then IPv6.

    Raises:
        OSError: nobody listens there, or the namespace is gone.
    """
    failures: list[OSError] = []
    for family, address in _LOOPBACK:
        try:
            return await _connect(namespace, family, (address, port))
        except OSError as error:
            failures.append(error)
    said = "; ".join(
        f"{address}: {error.strerror or error}" for (_, address), error in zip(_LOOPBACK, failures, strict=True)
    )
    raise OSError(failures[0].errno, f"cannot connect to port {port} in the pod: {said}") from failures[0]


async def _connect(namespace: str, family: int, address: tuple[str, int]) -> socket.socket:
    loop = asyncio.get_running_loop()
    made = await _make(namespace, family)
    try:
        made.setblocking(False)
        await loop.sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


async def _make(namespace: str, family: int) -> socket.socket:
    if not namespace:
        return socket.socket(family, socket.SOCK_STREAM)
    # A thread of its own, which ends there: a pool's thread would have to find its way back.
    executor = ThreadPoolExecutor(1, thread_name_prefix="netns")
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, _make_inside, namespace, family)
    finally:
        executor.shutdown(wait=False)


def _make_inside(namespace: str, family: int) -> socket.socket:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot enter {namespace}: {os.strerror(number)}")
    finally:
        os.close(descriptor)
    return socket.socket(family, socket.SOCK_STREAM)
