"""What the kernel can do is seldom written anywhere; it is tried, in a network namespace that ends with the trial."""

import shutil
import subprocess
from typing import Final

from corral.agent.runtime import spawn
from corral.base.checks import Check, Level

_SECONDS: Final = 10.0
_LINKS: Final[tuple[tuple[str, str, Level], ...]] = (
    ("bridge", "link add corral0 type bridge", "needed"),
    ("veth", "link add corral0 type veth peer name corral1", "needed"),
    ("vxlan", "link add corral0 type vxlan external dstport 4790", "wanted"),
)
"""VXLAN carries the packets of pods between machines that are not on one link."""


def trials() -> list[Check]:
    """What pods' networks need of the kernel; takes some hundredths of a second and leaves nothing behind."""
    links = [_trial(name, ["ip", "-batch", "-"], line, level) for name, line, level in _LINKS]
    return [*links, _trial("nf_tables", ["nft", "-f", "-"], "add table ip corral", "needed")]


def _trial(name: str, command: list[str], line: str, level: Level) -> Check:
    program = shutil.which(command[0], path=spawn.PATH)
    if program is None:
        # Its own check says how to get it.
        return Check(name, True, f"not tried: {command[0]} is not installed")
    try:
        done = subprocess.run(
            ["unshare", "--net", program, *command[1:]],
            input=f"{line}\n",
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env={"PATH": spawn.PATH, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(
            name, False, f"cannot try it: {error}", "run it with sudo, where network namespaces are allowed", level
        )
    said = next(iter(done.stderr.strip().splitlines()), f"it ended with {done.returncode}")
    detail = "the kernel has it" if done.returncode == 0 else f"the kernel does not do it: {said}"
    return Check(name, done.returncode == 0, detail, f"modprobe {name}", level)
