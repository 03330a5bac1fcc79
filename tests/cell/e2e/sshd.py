"""An ssh server of a test's own, on loopback."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
AuthorizedKeysFile {directory}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
SetEnv PATH={directory}/bin:/usr/bin:/bin:/usr/sbin:/sbin
"""
_CORRAL = """#!/bin/sh
for word; do printf '%s\\n' "$word"; done >> {directory}/words
unset CORRAL_DATA_DIR KUBECONFIG
PYTHONPATH={path} exec {python} -m corral "$@"
"""


@dataclass(frozen=True, slots=True)
class Sshd:
    """A running server."""

    directory: Path
    port: int

    @property
    def destination(self) -> str:
        return f"ssh://root@127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to get in."""
        known = f"-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={self.directory}/known"
        return {"CORRAL_SSH_COMMAND": f"ssh -F /dev/null -i {self.directory}/user -o BatchMode=yes {known}"}

    def words(self) -> list[str]:
        """All words with which `corral` was called there."""
        return (self.directory / "words").read_text().splitlines()


@contextmanager
def running_sshd(directory: Path, port: int) -> Iterator[Sshd]:
    """An ssh server that lets root in by a key of its own, and on whose PATH there is a `corral`."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("no sshd on this machine: apt-get install openssh-server")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    (directory / "bin").mkdir()
    corral = directory / "bin" / "corral"
    path = os.pathsep.join(filter(None, sys.path))
    corral.write_text(_CORRAL.format(directory=directory, python=sys.executable, path=path))
    corral.chmod(0o755)
    (directory / "config").write_text(_CONFIG.format(directory=directory, port=port))
    # Where it shuts its unprivileged part in; the Debian package's service makes it at its start.
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen([program, "-D", "-e", "-f", directory / "config"], stderr=log)
    try:
        deadline = time.monotonic() + 5
        while "listening" not in (directory / "log").read_text():
            assert server.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.02)
        yield Sshd(directory, port)
    finally:
        server.terminate()
        server.wait()
