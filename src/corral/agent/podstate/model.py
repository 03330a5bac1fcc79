"""The words of the pod state machine: what was observed, and what to do. All frozen; no I/O.

An instruction that takes time is `busy` from the moment it is handed out until its result is part of the next
`Observed`, so that nothing is done twice. What a pod's worker remembers between steps is all in `Observed`; after a
restart of the agent it is rebuilt from the runtime and from the status in the API.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from corral.agent.runtime.api import Container, Sandbox
from corral.kinds.types import Obj

VOLUMES = "volumes"
SANDBOX = "sandbox"


def image_key(name: str) -> str:
    """The `busy` key of a container's image."""
    return f"image/{name}"


def start_key(name: str) -> str:
    """The `busy` key of creating, starting or removing a container."""
    return f"container/{name}"


class IllegalObservation(Exception):
    """Something that cannot be: the message carries the pod's story."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that did not work and is tried again at `retry_at`. `count` is how often in a row it failed."""

    reason: str
    message: str
    at: datetime
    retry_at: datetime
    count: int = 1


@dataclass(frozen=True, slots=True)
class ImageSeen:
    """The image for one attempt of one container: present (`image_id`) or not (`failure`)."""

    attempt: int
    image_id: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class VolumesSeen:
    """The pod's volumes as a whole."""

    ready: bool = False
    failure: Failure | None = None
    present: bool = False
    """Something of them, or of the pod's other files, is on this machine."""


@dataclass(frozen=True, slots=True)
class ProbeSeen:
    """What probes say of one container. A container without the probe counts as started, as ready."""

    started: bool
    ready: bool


@dataclass(frozen=True, slots=True)
class Condemned:
    """A container that must end and, if its policy says so, begin again. `grace` None is the pod's."""

    message: str
    grace: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """What is known of an ended container beyond the runtime's record."""

    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Rejection:
    """The agent does not take the pod, or keeps it no longer: it becomes Failed with this reason and message."""

    reason: str
    message: str
    grace: int | None = None
    """Seconds that containers get to end; None is what the pod says."""
    disrupted: bool = False
    """It ran here and is ended for the machine's sake, not its own."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that is known of one pod on this machine."""

    sandbox: Sandbox | None = None
    sandbox_attempts: int = 0
    sandbox_failure: Failure | None = None
    containers: tuple[Container, ...] = ()
    notes: Mapping[str, Note] = field(default_factory=dict)
    """By container id."""
    images: Mapping[str, ImageSeen] = field(default_factory=dict)
    """By container name."""
    start_failures: Mapping[str, Failure] = field(default_factory=dict)
    """By container name: it could not even be created."""
    volumes: VolumesSeen = VolumesSeen()
    probes: Mapping[str, ProbeSeen] = field(default_factory=dict)
    """By container id; missing for containers without probes."""
    hooks: frozenset[str] = frozenset()
    """Ids of containers whose postStart hook still runs."""
    condemned: Mapping[str, Condemned] = field(default_factory=dict)
    """By container id."""
    killing: Mapping[str, datetime] = field(default_factory=dict)
    """Containers that were told to end, by id, and when their grace ends."""
    busy: frozenset[str] = frozenset()
    streaks: Mapping[str, int] = field(default_factory=dict)
    """By container name: restarts in a row without ten quiet minutes between."""
    rejected: Rejection | None = None
    unwanted: bool = False
    """Nobody wants what the pod, once ended, has on this machine: the disk is too full to keep logs and files."""
    gone: bool = False
    """The object is no longer in the API."""
    fenced: bool = False
    """The pod may run on another machine by now."""


@dataclass(frozen=True, slots=True)
class PrepareVolumes:
    """Make every volume of the pod ready."""


@dataclass(frozen=True, slots=True)
class EnsureImage:
    """Have the image that attempt `attempt` of a container needs, by its pull policy."""

    name: str
    attempt: int


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    attempt: int


@dataclass(frozen=True, slots=True)
class StartContainer:
    """Create and start; `streak` is remembered for the next back-off."""

    name: str
    attempt: int
    image_id: str
    streak: int


@dataclass(frozen=True, slots=True)
class KillContainer:
    """Run the preStop hook, then stop within `grace` seconds. Given again with less grace, the shorter one counts."""

    id: str
    name: str
    grace: int
    message: str


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """Remove a container that was created and never started."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    """Remove the sandbox and what is left in it."""

    id: str


@dataclass(frozen=True, slots=True)
class TeardownVolumes:
    """Give up all volumes and files of the pod."""


@dataclass(frozen=True, slots=True)
class FinishPod:
    """Everything is gone: report the last status, then remove the object from the API. Nothing follows."""


Instruction: TypeAlias = (
    PrepareVolumes
    | EnsureImage
    | CreateSandbox
    | StartContainer
    | KillContainer
    | RemoveContainer
    | RemoveSandbox
    | TeardownVolumes
    | FinishPod
)


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now, what to report, and when to look again if nothing happens before."""

    instructions: Sequence[Instruction]
    status: Obj
    wake_at: datetime | None = None
