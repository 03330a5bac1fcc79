"""What an agent keeps in memory, below /run/corral, because it must be writable when the agent's disk is not.

    exits-NAME/ID          exit codes of containers (`oci/state.py`)
    fence-NAME.json[.pid]  until when all is well, and who watches that (`agent/guard.py`)
    of-NAME                a link to the agent's directory, from which NAME is made

An agent that is killed leaves them for the next one of its directory. When the directory is gone, too, whoever starts
next on the machine removes them.
"""

import contextlib
import hashlib
import shutil
from pathlib import Path
from typing import Final

RUN: Final = Path("/run/corral")


def exits(directory: Path) -> Path:
    """Where the exit codes are of the containers of the agent of `directory`."""
    return RUN / f"exits-{_name(directory)}"


def fence(directory: Path) -> Path:
    """The file of its fence."""
    return RUN / f"fence-{_name(directory)}.json"


def _name(directory: Path) -> str:
    return hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]


def claim(directory: Path) -> None:
    """Note whose they are."""
    RUN.mkdir(mode=0o755, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (RUN / f"of-{_name(directory)}").symlink_to(directory.resolve())


def leave(directory: Path) -> None:
    """Forget the agent of `directory`, unless there still is something of it."""
    if not exits(directory).exists() and not fence(directory).exists():
        (RUN / f"of-{_name(directory)}").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            RUN.rmdir()


def sweep() -> None:
    """Remove what belongs to directories that are gone, but for what a watchman still has to do."""
    for link in RUN.glob("of-*"):
        name = link.name.removeprefix("of-")
        said, watchman = RUN / f"fence-{name}.json", RUN / f"fence-{name}.json.pid"
        if _leads_nowhere(link) and not _runs(watchman):
            shutil.rmtree(RUN / f"exits-{name}", ignore_errors=True)
            for path in (said, watchman, link):
                path.unlink(missing_ok=True)


def _leads_nowhere(link: Path) -> bool:
    """Whether the directory is not there; one on a disk that fails is."""
    try:
        link.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def _runs(file: Path) -> bool:
    """Whether the process named in the file is there."""
    try:
        return Path("/proc", file.read_text()).exists()
    except OSError:
        return False
