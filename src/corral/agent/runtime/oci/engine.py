"""Which OCI runtime creates containers here, and how to call it.

crun starts a container in about half of runc's time, but crun 1.8 refuses machines in cgroup hybrid mode as long as it
sees the nearly empty v2 hierarchy. There it is called from a short-lived mount namespace in which that hierarchy is
not mounted. (A namespace made once and pinned would be a little faster, but would not see what is mounted later on
machines whose root is not shared.) Only creating and exec'ing look at the hierarchy; the other calls are direct.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from corral.agent.runtime import spawn
from corral.agent.runtime.api import RuntimeFailure
from corral.agent.runtime.oci.cgroups import Kind

Choice = Literal["auto", "crun", "runc"]

_WITHOUT_UNIFIED = 'umount -l /sys/fs/cgroup/unified && exec "$@"'


@dataclass(frozen=True, slots=True)
class Engine:
    """An OCI runtime: `name` is `crun` or `runc`; `root` is where it keeps its state."""

    name: str
    version: str
    path: str
    root: Path
    wrapper: tuple[str, ...] = ()

    @property
    def sends_terminal(self) -> bool:
        """Whether `exec` hands its terminal to a socket and still waits for the process (runc does only one)."""
        return self.name == "crun"

    def argv(self, *arguments: str, log: Path | None = None) -> list[str]:
        """A call that does not look at control groups."""
        return [self.path, *self._options(log), *arguments]

    def careful_argv(self, *arguments: str, log: Path | None = None) -> list[str]:
        """A call that does (create, exec)."""
        return [*self.wrapper, self.path, *self._options(log), *arguments]

    def _options(self, log: Path | None) -> list[str]:
        options = ["--root", str(self.root)]
        return [*options, "--log", str(log), "--log-format", "json"] if log is not None else options


def wrapper(name: str, cgroups: Kind) -> tuple[str, ...]:
    """What has to come before the OCI runtime's own arguments on a machine with such control groups."""
    if name != "crun" or cgroups != "hybrid":
        return ()
    return ("/usr/bin/unshare", "--mount", "--propagation", "slave", "/bin/sh", "-c", _WITHOUT_UNIFIED, "sh")


def preference(choice: Choice) -> Sequence[str]:
    return ("crun", "runc") if choice == "auto" else (choice,)


async def find(choice: Choice, root: Path, cgroups: Kind) -> Engine:
    """The OCI runtime to use.

    Raises:
        RuntimeFailure: none is installed.
    """
    for name in preference(choice):
        path = shutil.which(name, path=spawn.PATH)
        if path is None:
            continue
        done = await spawn.run([path, "--version"])
        words = done.stdout.decode(errors="replace").split()
        if done.code == 0 and len(words) >= 3:
            return Engine(name, words[2], path, root, wrapper(name, cgroups))
    raise RuntimeFailure(
        "RuntimeNotReady",
        f"cannot find an OCI runtime ({' or '.join(preference(choice))}) in {spawn.PATH}",
        "apt-get install -y --no-install-recommends runc",
    )
