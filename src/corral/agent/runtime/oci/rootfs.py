"""A container's root: the image's layers below, a writable directory of its own above (overlayfs)."""

import os
from collections.abc import Sequence
from pathlib import Path

from corral.agent.runtime import syscalls
from corral.agent.runtime.oci.state import remove_tree

# mount(2) takes one page of options; a little less, for the kernel's own.
_MOST_OPTIONS = 4000


def options(layers: Sequence[str], upper: str, work: str) -> str:
    """Overlay options; `layers` are directories, the topmost first."""
    lower = ":".join(layer.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,") for layer in layers)
    return f"lowerdir={lower},upperdir={upper},workdir={work}"


async def mount(layers: Sequence[str], directory: Path) -> str:
    """Mount the root below `directory` (as `root`) and return its path; mounted already is fine."""
    root = directory / "root"
    for name in ("root", "upper", "work"):
        (directory / name).mkdir(exist_ok=True, mode=0o755)
    if os.path.ismount(root):
        return str(root)
    text = options(layers, f"{directory}/upper", f"{directory}/work")
    if len(text) < _MOST_OPTIONS:
        syscalls.mount("overlay", str(root), "overlay", options=text)
    else:
        await syscalls.in_new_thread(lambda: _mount_from_common_parent(layers, directory))
    return str(root)


def _mount_from_common_parent(layers: Sequence[str], directory: Path) -> None:
    """With many layers the paths have to be short: relative to their parent, in a thread with its own directory."""
    parent = os.path.commonpath(layers)
    relative = [os.path.relpath(layer, parent) for layer in layers]
    syscalls.unshare(syscalls.CLONE_FS)
    os.chdir(parent)
    text = options(relative, f"{directory}/upper", f"{directory}/work")
    syscalls.mount("overlay", f"{directory}/root", "overlay", options=text)


def unmount(directory: Path) -> None:
    """Unmount the root (lazily, if something still uses it). Safe to repeat."""
    while syscalls.unmount(str(directory / "root")):
        continue


def remove(directory: Path) -> None:
    """Unmount and remove everything of the container's directory. Safe to repeat."""
    unmount(directory)
    remove_tree(directory)
