"""Files out of a stranger's directory: everything inside, nothing outside."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from corral.agent.files import FileError, tar_stream


async def fetch(root: Path, path: str) -> tarfile.TarFile:
    raw = b"".join([chunk async for chunk in tar_stream(str(root), path)])
    return tarfile.open(fileobj=io.BytesIO(raw))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("outside")
    inside = tmp_path / "root"
    (inside / "out" / "deep").mkdir(parents=True)
    (inside / "out" / "a.txt").write_text("hello")
    (inside / "out" / "deep" / "b").write_bytes(bytes(700_000))
    (inside / "out" / "link").symlink_to("/secret")
    (inside / "abs").symlink_to("/out")
    (inside / "up").symlink_to("../../secret")
    os.mkfifo(inside / "out" / "pipe")
    return inside


async def test_a_directory(root: Path) -> None:
    tar = await fetch(root, "out")
    assert tar.getnames() == ["out", "out/a.txt", "out/deep", "out/deep/b", "out/link"]
    found = tar.extractfile("out/a.txt")
    assert found is not None
    assert found.read() == b"hello"
    assert tar.getmember("out/deep/b").size == 700_000
    assert tar.getmember("out/link").linkname == "/secret"


async def test_a_file_and_the_root_itself(root: Path) -> None:
    assert (await fetch(root, "/out/a.txt")).getnames() == ["a.txt"]
    assert "./abs" in (await fetch(root, ".")).getnames()


async def test_links_are_followed_inside_the_root_only(root: Path) -> None:
    assert (await fetch(root, "abs/a.txt")).getnames() == ["a.txt"]
    for path in ("up", "out/link", "../secret", "/../../secret"):
        with pytest.raises(FileError) as caught:
            await fetch(root, path)
        assert caught.value.missing


async def test_what_is_not_there_is_said(root: Path) -> None:
    with pytest.raises(FileError, match="cannot open nope: No such file"):
        await fetch(root, "nope")
