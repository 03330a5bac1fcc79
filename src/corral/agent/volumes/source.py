"""The csi driver `source.corral.dev`: a program's files, uploaded by the user, unpacked for one pod to work in.

`volumeAttributes.digest` is the SHA-256 of a tar.gz. What is unpacked is writable, the pod's own, and stays over
restarts of its containers. The archive is a stranger's: members that would leave the directory, devices, and archives
that swell beyond the limits are refused before anything runs.
"""

import asyncio
import hashlib
import os
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from corral.agent.volumes.api import VolumeContext, VolumeError
from corral.base.errors import CorralError
from corral.kinds.types import Obj

DRIVER = "source.corral.dev"
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may swell to."""

    bytes: int = 32 << 30
    members: int = 1_000_000


async def prepare(volume: Obj, context: VolumeContext) -> Path:
    digest = str((volume["csi"].get("volumeAttributes") or {}).get("digest") or "")
    if not _DIGEST.match(digest):
        raise VolumeError(
            f'volume "{volume["name"]}" has no valid digest: {digest!r}',
            "set csi.volumeAttributes.digest to the SHA-256 of the uploaded tar.gz, in 64 hex digits",
        )
    if context.directory.is_dir():
        return context.directory
    archive = context.directory.with_name(f".{volume['name']}.tar.gz")
    fresh = context.directory.with_name(f".{volume['name']}.new")
    try:
        await context.sources.fetch(context.namespace, digest, archive)
        await asyncio.to_thread(unpack, archive, digest, fresh)
        await asyncio.to_thread(_hand_over, fresh, context)
        fresh.rename(context.directory)
    except (CorralError, OSError) as error:
        message = error.message if isinstance(error, CorralError) else str(error)
        raise VolumeError(f"cannot bring source {digest[:12]}: {message}") from error
    finally:
        archive.unlink(missing_ok=True)
        await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
    return context.directory


def unpack(archive: Path, digest: str, into: Path, limits: Limits = Limits()) -> None:  # noqa: B008 (frozen)
    """Verify `archive` and extract it to the new directory `into`.

    Raises:
        VolumeError: wrong digest, not a tar.gz, or a member that is not allowed; `into` may be half-made then.
    """
    _verify(archive, digest)
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(mode=0o755)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            _extract(tar, into, limits)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise VolumeError(f"cannot unpack the source archive: {error}") from error


def _verify(archive: Path, digest: str) -> None:
    found = hashlib.sha256()
    with archive.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            found.update(chunk)
    if found.hexdigest() != digest:
        raise VolumeError(f"the archive's SHA-256 is {found.hexdigest()[:12]}..., not the one asked for")


def _extract(tar: tarfile.TarFile, into: Path, limits: Limits) -> None:
    size = members = 0
    for member in tar:
        size += max(member.size, 0)
        members += 1
        if size > limits.bytes or members > limits.members:
            raise VolumeError(
                f"the source archive is too large unpacked (limits: {limits.bytes >> 20} MiB, {limits.members} files)"
            )
        # The data filter refuses devices, absolute names, `..` and links that lead outside, and drops owners.
        tar.extract(member, into, filter="data")


def _hand_over(directory: Path, context: VolumeContext) -> None:
    """Make the pod's user and group the owners where the pod names them."""
    user = (context.pod["spec"].get("securityContext") or {}).get("runAsUser")
    owner = -1 if user is None else int(user)
    group = -1 if context.fs_group is None else context.fs_group
    if owner == -1 and group == -1:
        return
    for parent, folders, files in os.walk(directory):
        for name in (".", *folders, *files):
            path = os.path.join(parent, name)
            os.chown(path, owner, group, follow_symlinks=False)
            if group != -1 and not os.path.islink(path):
                mode = os.stat(path).st_mode
                os.chmod(path, mode | (0o2070 if name in (".", *folders) else 0o060))
