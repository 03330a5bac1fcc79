"""The csi driver `source.corral.dev`: a program's files, uploaded by the user, unpacked for one pod to work in.

`volumeAttributes.digest` is the SHA-256 of a tar.gz. What is unpacked is writable, the pod's own, and stays over
restarts of its containers. The archive is a stranger's: members that would leave the directory, devices, and archives
that swell beyond the limits are refused before anything runs.
"""

import asyncio
import gzip
import hashlib
import io
import os
import re
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from corral.agent.volumes.api import VolumeContext, VolumeError
from corral.base.errors import CorralError
from corral.kinds.types import Obj

DRIVER = "source.corral.dev"
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_CHUNK = 1 << 20
_LONGEST_READ = 4 << 20
_DEEPEST = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may swell to."""

    bytes: int = 32 << 30
    members: int = 1_000_000


class _Sips(io.RawIOBase):
    """An archive that is read in small portions only.

    `tarfile` reads an extended header as a whole, however long it says it is: a few kilobytes of gzip could claim all
    memory. File contents are copied in chunks and never come near the limit.
    """

    def __init__(self, raw: gzip.GzipFile) -> None:
        self._raw = raw

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LONGEST_READ:
            raise tarfile.ReadError(f"a header is longer than {_LONGEST_READ >> 20} MiB")
        return self._raw.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()


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


def unpack(archive: Path, digest: str, into: Path, limits: Limits = Limits()) -> None:
    """Verify `archive` and extract it to the new directory `into`.

    Raises:
        VolumeError: wrong digest, not a tar.gz, or a member that is not allowed; `into` may be half-made then.
    """
    _verify(archive, digest)
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(mode=0o755)
    try:
        with gzip.open(archive) as raw, tarfile.open(fileobj=_Sips(raw), mode="r:") as tar:
            _extract(tar, into, limits)
    except RecursionError as error:
        raise VolumeError("cannot unpack the source archive: its headers are chained without end") from error
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, ValueError, zlib.error) as error:
        raise VolumeError(f"cannot unpack the source archive: {error}") from error


def _verify(archive: Path, digest: str) -> None:
    found = hashlib.sha256()
    with archive.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            found.update(chunk)
    if found.hexdigest() != digest:
        raise VolumeError(f"the archive's SHA-256 is {found.hexdigest()[:12]}..., not the one asked for")


def _extract(tar: tarfile.TarFile, into: Path, limits: Limits) -> None:
    size = 0
    for count, member in enumerate(iter(tar.next, None), 1):
        # The library would keep a million of them.
        tar.members.clear()  # type: ignore[attr-defined]
        size += max(member.size, 0)
        if size > limits.bytes or count > limits.members:
            raise VolumeError(
                f"the source archive is too large unpacked (limits: {limits.bytes >> 20} MiB, {limits.members} files)"
            )
        _extract_member(tar, member, into)


def _extract_member(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    """Write one member. No link is ever followed, so a link may point anywhere; it means something in the container."""
    target = _place(into, member.name)
    if target == into:
        return
    if member.isdir():
        if not target.is_dir() or target.is_symlink():
            target.unlink(missing_ok=True)
            target.mkdir()
        target.chmod(member.mode & 0o777 | 0o700)
        return
    if os.path.lexists(target):
        _remove(target)
    if member.issym():
        target.symlink_to(member.linkname)
    elif member.islnk():
        linked = _place(into, member.linkname)
        if linked.is_symlink() or not linked.is_file():
            raise VolumeError(f"hard link {member.name!r} in the source archive names no file of the archive")
        os.link(linked, target, follow_symlinks=False)
    elif member.isreg():
        _write(tar, member, target)
    else:
        raise VolumeError(f"{member.name!r} in the source archive is a device or another special file")


def _place(into: Path, name: str) -> Path:
    """Where a member goes: below `into`, through real directories only."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if len(parts) > _DEEPEST:
        raise VolumeError(f"{name[:80]!r}... in the source archive lies more than {_DEEPEST} directories deep")
    if name.startswith("/") or ".." in parts:
        raise VolumeError(f"{name!r} in the source archive leads outside of it")
    parent = into
    for part in parts[:-1]:
        parent = parent / part
        if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
            raise VolumeError(f"{name!r} in the source archive lies behind a link or a file")
        parent.mkdir(exist_ok=True)
    return parent / parts[-1] if parts else into


def _remove(target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        raise VolumeError(f"{target.name!r} in the source archive is a directory and a file")
    target.unlink()


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise VolumeError(f"cannot read {member.name!r} from the source archive")
    with content, open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as out:
        shutil.copyfileobj(content, out, _CHUNK)
        os.fchmod(out.fileno(), member.mode & 0o777 | 0o600)
    os.utime(target, (member.mtime, member.mtime))


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
