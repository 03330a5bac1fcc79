"""Files that change all at once.

The layout is the kubelet's AtomicWriter: files live in a time-stamped directory, `..data` is a symlink to it, and each
top-level name is a symlink through `..data`; renaming one symlink changes everything that readers see.
"""

import os
import secrets
import shutil
from pathlib import Path, PurePosixPath

from corral.agent.volumes.api import Payload, VolumeError

_DATA = "..data"


def write(directory: Path, payload: Payload, group: int | None = None) -> bool:
    """Make `directory` show exactly `payload`; False if it already did. With `group`, files belong to it."""
    for path in payload:
        _check(path)
    current = _current(directory)
    if current is not None and _shows(current, payload):
        _link_names(directory, payload)
        return False
    fresh = directory / f"..{secrets.token_hex(8)}"
    fresh.mkdir(mode=0o755)
    _fill(fresh, payload, group)
    swap = directory / "..data_tmp"
    swap.unlink(missing_ok=True)
    swap.symlink_to(fresh.name)
    swap.rename(directory / _DATA)
    _link_names(directory, payload)
    if current is not None:
        shutil.rmtree(current)
    return True


def _check(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise VolumeError(
            f"invalid path {path!r} in a volume: it must be relative, and must not contain or begin with .."
        )


def _current(directory: Path) -> Path | None:
    data = directory / _DATA
    return directory / os.readlink(data) if data.is_symlink() else None


def _shows(directory: Path, payload: Payload) -> bool:
    there = {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}
    return there.keys() == payload.keys() and all(
        there[name].read_bytes() == file.data and there[name].stat().st_mode & 0o777 == file.mode & 0o777
        for name, file in payload.items()
    )


def _fill(directory: Path, payload: Payload, group: int | None) -> None:
    if group is not None:
        _give(directory, group)
    for name, file in payload.items():
        target = directory / name
        for parent in reversed(target.relative_to(directory).parents[:-1]):
            made = directory / parent
            if not made.is_dir():
                made.mkdir(mode=0o755)
                if group is not None:
                    _give(made, group)
        target.write_bytes(file.data)
        if group is not None:
            os.chown(target, -1, group)
        target.chmod(file.mode & 0o777)


def _give(directory: Path, group: int) -> None:
    os.chown(directory, -1, group)
    directory.chmod(0o2775)


def _link_names(directory: Path, payload: Payload) -> None:
    names = {PurePosixPath(path).parts[0] for path in payload}
    for name in names:
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(f"{_DATA}/{name}")
    for entry in directory.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in names:
            entry.unlink()
