"""Who a container's process is: Kubernetes' and the image's words for a user, looked up in the image's own files.

The files belong to the image, so they are opened as from inside its root: no symlink leads out.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corral.agent.runtime import syscalls
from corral.agent.runtime.api import RuntimeFailure

_MOST_BYTES = 4 << 20
ReadFile = Callable[[str], str]
"""The text of a file of the image, by absolute path; empty when there is none."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A resolved user. `home` is where $HOME points."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def reader(root: str) -> ReadFile:
    """Reads files of the image whose root is at `root`."""

    def read(path: str) -> str:
        try:
            descriptor = syscalls.open_in_root(root, path)
        except OSError:
            return ""
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_MOST_BYTES).decode(errors="replace")

    return read


def resolve(user: str, supplemental: Sequence[int], read: ReadFile) -> Identity:
    """The identity that `user` (`uid`, `uid:gid`, `name`, `name:group`, or empty for root) means in an image.

    Raises:
        RuntimeFailure: `CreateContainerError`, when a name is not in the image.
    """
    name, _, group = user.partition(":")
    accounts = [line.split(":") for line in read("/etc/passwd").splitlines()]
    known = [fields for fields in accounts if len(fields) >= 6 and fields[2].isdigit() and fields[3].isdigit()]
    wanted = name or "0"
    account = next((fields for fields in known if fields[0] == wanted), None)
    if account is None and wanted.isdigit():
        account = next((fields for fields in known if fields[2] == wanted), None)
    if account is None and not wanted.isdigit():
        raise RuntimeFailure("CreateContainerError", f"unable to find user {name}: no matching entries in passwd file")
    uid = int(account[2]) if account else int(wanted)
    groups = _groups(read("/etc/group"))
    gid = _group(group, groups) if group else (int(account[3]) if account else 0)
    member_of = [] if group or account is None else [number for _, number, members in groups if account[0] in members]
    # The primary group is listed as well: a file may deny it what it allows others (CVE-2022-2990).
    extra = sorted({*member_of, *supplemental} - {gid})
    return Identity(uid, gid, (gid, *extra), account[5] or "/" if account else "/")


def _groups(text: str) -> list[tuple[str, int, list[str]]]:
    lines = [line.split(":") for line in text.splitlines()]
    return [(f[0], int(f[2]), f[3].split(",")) for f in lines if len(f) >= 4 and f[2].isdigit()]


def _group(group: str, groups: Sequence[tuple[str, int, list[str]]]) -> int:
    for name, number, _ in groups:
        if name == group:
            return number
    if group.isdigit():
        return int(group)
    raise RuntimeFailure("CreateContainerError", f"unable to find group {group}: no matching entries in group file")


def refuse_root(wanted: str, image_user: str, container: str) -> None:
    """Kubernetes' check for `runAsNonRoot`, in its words (kubelet's `verifyRunAsNonRoot`).

    Raises:
        RuntimeFailure: `CreateContainerConfigError`.
    """
    name = wanted.partition(":")[0]
    if name:
        if name == "0" or name == "root":
            raise RuntimeFailure(
                "CreateContainerConfigError", f"container's runAsUser breaks non-root policy (container: {container})"
            )
        return
    name = image_user.partition(":")[0]
    if name in ("", "0", "root"):
        message = f"container has runAsNonRoot and image will run as root (container: {container})"
    elif not name.isdigit():
        message = (
            f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
            f" (container: {container})"
        )
    else:
        return
    raise RuntimeFailure("CreateContainerConfigError", message, "set securityContext.runAsUser")
