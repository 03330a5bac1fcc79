"""Whatever is wrong with what a cell starts from, `corral up` names it with a remedy and ends with 1."""

import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Place, Result, fill

_AT_ONCE = 4


def assert_refused(result: Result, *words: str) -> None:
    """The start failed with a named error and a remedy, and without a stack trace."""
    said = result.stdout + result.stderr
    assert result.returncode == 1, said
    assert "Traceback" not in said
    assert said.count("error: cannot ") == 1, said
    assert "remedy: " in said
    for word in words:
        assert word in said


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _garble(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * (path.stat().st_size // 256 + 1))


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _lose_all_but_the_log(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}-wal"))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("store.db", _truncate),
        ("store.db", _garble),
        ("store.db", _empty),
        ("store.db", _replace_by_directory),
        ("store.db", _lose_all_but_the_log),
        ("pki/ca.key", _truncate),
        ("pki/ca.key", _empty),
        ("pki/ca.key", Path.unlink),
        ("pki/ca.crt", _truncate),
        ("pki/sa.key", _garble),
        ("kubeconfig", _replace_by_directory),
        ("run/lock", _replace_by_directory),
        ("version", _replace_by_directory),
        ("version", _garble),
    ],
)
def test_damage_is_named(place: Place, name: str, damage: Callable[[Path], None]) -> None:
    damage(place.data_dir / name)
    assert_refused(place.up(), str(place.data_dir))


@pytest.mark.parametrize("name", ["admin.crt", "admin.key", "apiserver.crt", "apiserver.key"])
def test_a_broken_certificate_of_our_own_is_issued_again(place: Place, name: str) -> None:
    _truncate(place.data_dir / "pki" / name)
    result = place.up()
    assert result.returncode == 0, result.stderr


def test_the_data_directory_of_a_newer_corral_is_left_alone(place: Place) -> None:
    (place.data_dir / "version").write_text("999\n")
    assert_refused(place.up(), "version 999")


def test_a_port_in_use_is_named(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert_refused(place.up("--port", port), f"port {port}", "ss -ltnp")


def test_a_held_data_directory_is_left_to_its_holder(place: Place) -> None:
    lock = os.open(place.data_dir / "run" / "lock", os.O_RDWR)
    whole_file = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(lock, fcntl.F_OFD_SETLK, whole_file)
    try:
        result = place.up()
    finally:
        os.close(lock)
    assert "already runs" in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("hidden", "named"),
    [
        (["/usr/bin/conmon"], "conmon"),
        (["/usr/bin/crun", "/usr/sbin/runc", "/usr/bin/runc"], "OCI runtime"),
        (["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"], "CNI plugins"),
    ],
)
def test_missing_programs_are_named(place: Place, hidden: list[str], named: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("an agent needs root")
    paths = [Path(name).resolve() for name in hidden if Path(name).exists()]
    # In a mount namespace of its own: an empty directory, or something that cannot be run, lies over each.
    hide = "".join(
        f"mount -t tmpfs none {path} && " if path.is_dir() else f"mount --bind /dev/null {path} && " for path in paths
    )
    start = place.command("up", "--port", "0")
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{hide} exec "$@"', "sh", *start],
        env=place.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert_refused(result, named, "apt-get install")


def test_of_many_at_once_exactly_one_serves(place: Place) -> None:
    arguments = place.command("up", "--detach", "--no-agent", "--port", "0", "--bind", "127.0.0.1")
    starting = [
        subprocess.Popen(arguments, env=place.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(_AT_ONCE)
    ]
    said = [process.communicate(timeout=60) for process in starting]
    assert [process.returncode for process in starting] == [0] * _AT_ONCE, said
    assert sum("cell ready" in stdout for stdout, _ in said) >= 1
    log = (place.data_dir / "log" / "corral.log").read_text()
    assert log.count("cell ready") == 2, log  # once before, in the cell that this one is a copy of
    assert "Traceback" not in log


@pytest.mark.parametrize("detach", [["--detach"], []])
def test_a_full_disk_is_named(small_disk: Callable[[int], Path], detach: list[str]) -> None:
    disk = small_disk(4)
    fill(disk, leave=256 * 1024)
    place = Place(disk / "c")
    assert_refused(place.run("up", "--no-agent", "--port", "0", *detach), str(disk), "No space left", "free")


@pytest.mark.parametrize("leave", [0, 4096, 16384])
def test_a_disk_that_is_full_to_the_last_page_is_named(
    small_disk: Callable[[int], Path], finished_cell: Path, leave: int
) -> None:
    disk = small_disk(4)
    fill(disk, leave=leave)
    place = Place(disk / "c")
    assert_refused(place.up(), str(disk), "No space left", "free")
