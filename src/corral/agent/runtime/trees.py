"""Removing what a stranger's program has left behind."""

import errno
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

_LOST = frozenset((errno.EROFS, errno.EIO, errno.ESHUTDOWN))
_DEEP = frozenset((errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG, errno.ELOOP))


def remove(path: Path) -> None:
    """Remove a directory tree of any depth without following links; nothing there is fine.

    A program can nest directories deeper than Python can recurse, and deeper than a path can be long. rm(1) can
    remove such a tree; it is too slow to start for every tree.

    Raises:
        OSError: something cannot be removed.
    """
    if not path.is_dir():
        return
    try:
        shutil.rmtree(path)
    except RecursionError:
        _remove_deep(path)
    except OSError as error:
        if error.errno not in _DEEP:
            raise
        _remove_deep(path)


def _remove_deep(path: Path) -> None:
    done = subprocess.run(
        ["rm", "-rf", "--one-file-system", "--", str(path)], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if done.returncode or os.path.lexists(path):
        said = done.stderr[-500:].decode(errors="replace").strip()
        raise OSError(errno.ENOTEMPTY, f"cannot remove the directory tree: {said}", str(path))


@contextmanager
def unless_lost(path: Path) -> Iterator[None]:
    """Remove what is at `path` unless its disk was lost (made read-only after an error, as a rule).

    A pod whose processes have ended has ended: its successor elsewhere does not wait until a person has mended a disk.
    What is left goes when an agent next begins there.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _LOST:
            raise
        log.warning("leaving %s: its disk is lost: %s", path, error.strerror)
