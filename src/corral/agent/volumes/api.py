"""What a volume type is: a function that makes one volume of one pod ready and says where it is.

`prepare(volume, context)` is idempotent: it is called again after a restart of the agent and whenever something that
the volume shows has changed, and must leave what is right as it is.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeAlias

from corral.agent.env import Surroundings
from corral.base.errors import CorralError
from corral.kinds.types import Obj, Resource


class VolumeError(CorralError):
    """A volume cannot be made ready; the pod waits and it is tried again (event `FailedMount`)."""


@dataclass(frozen=True, slots=True)
class Token:
    """A service account token and its life."""

    text: str
    issued: datetime
    expires: datetime

    @property
    def refresh_at(self) -> datetime:
        """At 80 % of its life, as the kubelet."""
        return self.issued + (self.expires - self.issued) * 0.8


class SourceFetcher(Protocol):
    """Brings uploaded sources (content-addressed tar.gz archives) from the cell's server."""

    async def fetch(self, namespace: str, digest: str, into: Path) -> None:
        """Write the archive with the SHA-256 `digest` (hex) to the file `into`.

        Raises:
            CorralError, OSError: it is not there or cannot be reached.
        """


class ObjectReader(Protocol):
    """What pods refer to, by name, from a cache that watches it while `pod_uid` uses it."""

    async def get(self, resource: Resource, namespace: str, name: str, pod_uid: str) -> Obj | None: ...


class TokenSource(Protocol):
    """Service account tokens bound to a pod, remembered until it is time to refresh them."""

    async def token(self, pod: Obj, audience: str, seconds: int) -> Token: ...


@dataclass(frozen=True, slots=True)
class VolumeContext:
    """What a volume type may use."""

    pod: Obj
    directory: Path
    """The volume's own; its parent exists."""
    objects: ObjectReader
    tokens: TokenSource
    sources: SourceFetcher
    around: Surroundings
    local_volumes: Path
    """Where the machine keeps PersistentVolumes of its own."""

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"].get("namespace", ""))

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    @property
    def fs_group(self) -> int | None:
        """The group that volumes belong to."""
        group = (self.pod["spec"].get("securityContext") or {}).get("fsGroup")
        return None if group is None else int(group)


@dataclass(frozen=True, slots=True)
class File:
    """A file of a volume that shows API objects."""

    data: bytes
    mode: int


Payload: TypeAlias = Mapping[str, File]
"""Files by their path in the volume."""

Prepare: TypeAlias = Callable[[Obj, VolumeContext], Awaitable[Path]]
