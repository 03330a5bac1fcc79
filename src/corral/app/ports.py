"""Are the ports free that the API and an agent listen on?"""

import errno
import os
import socket

from corral.app.config import CellConfig
from corral.base.checks import Check
from corral.base.errors import CorralError


def cannot_listen(config: CellConfig, error: OSError) -> CorralError:
    """What to say when the port cannot be had."""
    if error.errno == errno.EADDRINUSE:
        remedy = f"end what uses it (ss -ltnp 'sport = :{config.port}'), or choose another with --port"
    else:
        remedy = "choose another with --port and --bind"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return CorralError(f"cannot listen on {config.host} port {config.port}: {reason}", remedy)


def check_port(config: CellConfig) -> str:
    """Say that the port is free.

    Raises:
        CorralError: it is not.
    """
    try:
        with socket.create_server((config.host, config.port)):
            return f"{config.port} is free" if config.port else "any free one"
    except OSError as error:
        raise cannot_listen(config, error) from error


def agent_port(address: str, port: int) -> Check:
    """Whether an agent can listen there; 0 is any free port."""
    try:
        with socket.create_server((address, port)):
            return Check("port", True, f"{address}:{port} is free" if port else f"any free one of {address}")
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        remedy = f"end what uses it (ss -ltnp 'sport = :{port}'), or choose another with --port"
        reason = os.strerror(error.errno) if error.errno else str(error)
        detail = f"cannot listen on {address}:{port}: {reason}"
        return Check("port", False, detail, remedy if taken else "name an address of this machine with --address")
