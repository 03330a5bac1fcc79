"""Directories in memory."""

import os
from pathlib import Path

from corral.agent import mounts
from corral.agent.runtime import syscalls


def ensure(directory: Path, size: int = 0, mode: int = 0o755) -> None:
    """Make `directory` a tmpfs of at most `size` bytes (0: the kernel's default, half of memory), if it is not one."""
    directory.mkdir(mode=0o755, exist_ok=True)
    if os.path.ismount(directory):
        return
    options = f"mode={mode:o}" + (f",size={size}" if size else "")
    mounts.mount("tmpfs", str(directory), "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
