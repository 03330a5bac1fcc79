"""The controllers of this room."""

from collections.abc import Callable, Sequence

from corral.fleet.controller import RepairController
from corral.fleet.notify import send
from corral.fleet.performer import RemoteRemedyController, RepairNotifier
from corral.fleet.remote import RemoteCommand
from corral.machinery.api import Controller


def controllers(remote: Callable[[], Sequence[str]]) -> list[Controller]:
    """A new set, for one `Runner`; `remote` gives the server's command for machines that do not answer."""
    return [RepairController(), RemoteRemedyController(RemoteCommand(remote)), RepairNotifier(send)]
