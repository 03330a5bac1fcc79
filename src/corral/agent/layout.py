"""Where the agent keeps what is the pods' on this machine, and what it calls things in the runtime. Pure paths.

```
DIR/pods/UID/volumes/NAME                  one directory a volume
DIR/pods/UID/subpaths/NAME/INDEX           parts of volumes, bound for one container
DIR/pods/UID/etc/{hosts,hostname,resolv.conf}
DIR/pods/UID/containers/NAME/ATTEMPT       the termination message of one run
DIR/volumes/NAME                           one directory a PersistentVolume of the class corral-local
DIR/logs/NAMESPACE_NAME_UID/CONTAINER/ATTEMPT.log
```
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from corral.kinds.types import Obj


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below the agent's directory."""

    directory: Path

    @property
    def pods(self) -> Path:
        return self.directory / "pods"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def local_volumes(self) -> Path:
        """Directories that outlive pods."""
        return self.directory / "volumes"

    def pod(self, uid: str) -> Path:
        return self.pods / uid

    def volumes(self, uid: str) -> Path:
        return self.pod(uid) / "volumes"

    def volume(self, uid: str, name: str) -> Path:
        return self.volumes(uid) / name

    def etc(self, uid: str) -> Path:
        return self.pod(uid) / "etc"

    def termination_log(self, uid: str, container: str, attempt: int) -> Path:
        return self.pod(uid) / "containers" / container / str(attempt)

    def pod_logs(self, pod: Obj) -> Path:
        metadata = pod["metadata"]
        return self.logs / f"{metadata.get('namespace', '')}_{metadata['name']}_{metadata['uid']}"

    def log(self, pod: Obj, container: str, attempt: int) -> Path:
        return self.pod_logs(pod) / container / f"{attempt}.log"


def sandbox_id(pod_uid: str, attempt: int) -> str:
    """The runtime's id of a pod's sandbox."""
    return f"{pod_uid}-{attempt}"


def container_id(pod_uid: str, name: str, attempt: int, sandbox: int) -> str:
    """The runtime's id of a container: 32 hex digits, the same for the same run.

    A run is told by its sandbox too, so that a run after a lost sandbox never meets the files of one before it.
    """
    return hashlib.sha256(f"{pod_uid}/{name}/{attempt}/{sandbox}".encode()).hexdigest()[:32]
