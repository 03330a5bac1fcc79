"""Secret files: written whole or not at all, readable by their owner only."""

import os
import secrets
from pathlib import Path

from corral.base.errors import CorralError


def make_private_directory(directory: Path) -> None:
    """Create `directory` (0700), or take the group's and others' rights away from it.

    Raises:
        CorralError: it cannot be made.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise CorralError(f"cannot create the directory {directory}: {error.strerror}") from error


def write_private(path: Path, data: bytes, *, replace: bool = True) -> None:
    """Write `data` to `path` with mode 0600; after a crash either the old file or the new one is there.

    With `replace=False` an existing file is never touched.

    Raises:
        FileExistsError: `path` exists and `replace` is false.
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
