"""What `corral run` sends."""

import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.base.errors import CorralError
from corral.cli.packing import files, pack


def plant(root: Path, *paths: str) -> None:
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path)


def test_git_and_ignored_files_stay_here(tmp_path: Path) -> None:
    plant(tmp_path, ".git/config", "main.py", "data/big.bin", "data/keep.csv", "build/x.o", "pkg/build/y.o")
    (tmp_path / ".gitignore").write_text("build/\n*.bin\n")
    assert list(files(tmp_path)) == [".gitignore", "data", "data/keep.csv", "main.py", "pkg"]


def test_corralignore_has_the_last_word(tmp_path: Path) -> None:
    plant(tmp_path, "model.bin", "notes.md")
    (tmp_path / ".gitignore").write_text("*.bin\n")
    (tmp_path / ".corralignore").write_text("!model.bin\nnotes.md\n")
    assert "model.bin" in set(files(tmp_path))
    assert "notes.md" not in set(files(tmp_path))


def test_nested_rules_are_relative_to_their_directory(tmp_path: Path) -> None:
    plant(tmp_path, "a/out/x", "b/out/y", "a/keep")
    (tmp_path / "a" / ".gitignore").write_text("/out\n")
    found = set(files(tmp_path))
    assert "a/out/x" not in found
    assert {"b/out/y", "a/keep"} <= found


def test_a_nested_rule_can_take_a_file_back(tmp_path: Path) -> None:
    plant(tmp_path, "a/x.log", "b/x.log")
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "a" / ".gitignore").write_text("!x.log\n")
    found = set(files(tmp_path))
    assert "a/x.log" in found
    assert "b/x.log" not in found


def test_the_same_tree_has_the_same_digest(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    plant(root, "b", "a/c")
    first = pack(root, tmp_path / "1.tar.gz")
    second = pack(root, tmp_path / "2.tar.gz")
    assert first.digest == second.digest
    assert first.files == 2
    (root / "b").write_text("changed")
    assert pack(root, tmp_path / "3.tar.gz").digest != first.digest


def test_links_modes_and_empty_directories_travel(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    plant(root, "run.sh")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("run.sh")
    (root / "empty").mkdir()
    package = pack(root, tmp_path / "a.tar.gz")
    with tarfile.open(package.path) as archive:
        members = {member.name: member for member in archive}
    assert members["run.sh"].mode & 0o777 == 0o755
    assert members["link"].issym()
    assert members["empty"].isdir()
    assert all(member.uid == 0 and not member.uname for member in members.values())


def test_sockets_and_pipes_are_not_sent(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    plant(root, "x")
    os.mkfifo(root / "pipe")
    package = pack(root, tmp_path / "a.tar.gz")
    with tarfile.open(package.path) as archive:
        assert archive.getnames() == ["x"]


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorralError, match="missing"):
        pack(tmp_path / "missing", tmp_path / "a.tar.gz")


@given(names=st.lists(st.text("abc.-_ é", min_size=1, max_size=8).filter(lambda n: n not in (".", "..")), unique=True))
def test_any_names_survive_the_journey(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("tree")
    for name in names:
        (root / name).write_text(name)
    package = pack(root, tmp_path_factory.mktemp("archive") / "a.tar.gz")
    with tarfile.open(package.path) as archive:
        assert sorted(archive.getnames()) == sorted(names)
