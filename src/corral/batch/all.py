"""The controllers of this room."""

from corral.batch.controller import QueueController
from corral.batch.jobs import QueuedJobController
from corral.batch.pods import QueuedPodController
from corral.machinery.api import Controller


def controllers(queues: QueueController) -> list[Controller]:
    """A new set, for one `Runner`, around the controller that also answers questions about queues."""
    return [queues, QueuedJobController(), QueuedPodController()]
