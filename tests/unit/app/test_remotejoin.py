"""Joining over ssh, up to the ssh: the other machine is a shell here, with programs of its own on its PATH."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.app.remotejoin import SSH_VARIABLE, Invitation, join_over_ssh
from corral.base.errors import CorralError

INVITATION = Invitation("https://10.0.0.1:6443", "abcdef.0123456789abcdef", "sha256:" + "0" * 64)
# As sshd does: the last word is a command line for a shell.
SSH = """#!/bin/sh
for last; do :; done
PATH={directory}/bin exec /bin/sh -c "$last"
"""
CORRAL = """#!/bin/sh
printf '%s\\n' "$@" > {directory}/words
read -r line
printf '%s' "$line" > {directory}/stdin
exit {code}
"""


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    def make(*, user: int = 0, sudo: bool = False, corral: bool = True, code: int = 0) -> Path:
        directory = tmp_path / "m"
        (directory / "bin").mkdir(parents=True)
        sh = shutil.which("sh")
        assert sh is not None
        (directory / "bin" / "sh").symlink_to(sh)
        script(directory / "ssh", SSH.format(directory=directory))
        script(directory / "bin" / "id", f"#!/bin/sh\necho {user}\n")
        if sudo:
            script(directory / "bin" / "sudo", '#!/bin/sh\nshift\ncase "$1" in true) exit 0;; esac\nexec "$@"\n')
        if corral:
            script(directory / "bin" / "corral", CORRAL.format(directory=directory, code=code))
        monkeypatch.setenv(SSH_VARIABLE, str(directory / "ssh"))
        return directory

    return make


@pytest.mark.parametrize(("user", "sudo"), [(0, False), (1000, True)], ids=["root", "sudo"])
def test_the_other_machine_is_told_to_join_and_reads_the_token_from_stdin(
    machine: Callable[..., Path], user: int, sudo: bool
) -> None:
    there = machine(user=user, sudo=sudo)
    assert join_over_ssh("host", INVITATION, ["--labels", "a=b c;$(d)"]) == 0
    words = (there / "words").read_text().splitlines()
    assert words[:3] == ["join", INVITATION.server, "--token"]
    assert words[3:] == ["-", "--ca-hash", INVITATION.pin, "--detach", "--labels", "a=b c;$(d)"]
    assert (there / "stdin").read_text() == INVITATION.token


def test_what_joining_ends_with_is_what_this_ends_with(machine: Callable[..., Path]) -> None:
    machine(code=3)
    assert join_over_ssh("host", INVITATION, []) == 3


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"corral": False}, "Corral is not installed there"),
        ({"user": 1000}, "not root and has no sudo"),
    ],
    ids=["no Corral", "no root"],
)
def test_what_is_in_the_way_is_named_before_anything_is_done(
    machine: Callable[..., Path], there: dict[str, int], said: str
) -> None:
    made = machine(**there)
    with pytest.raises(CorralError, match=said) as refused:
        join_over_ssh("user@host", INVITATION, [])
    assert refused.value.remedy
    assert not (made / "words").exists()


def test_an_ssh_that_fails_and_a_destination_that_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SSH_VARIABLE, "sh -c 'exit 255'")
    with pytest.raises(CorralError, match="ssh ended with 255"):
        join_over_ssh("host", INVITATION, [])
    with pytest.raises(CorralError, match="no destination"):
        join_over_ssh("-oProxyCommand=x", INVITATION, [])
