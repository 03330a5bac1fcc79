"""What `--get` brings back lands where it was asked for, whatever the other side sends."""

import io
import tarfile
from pathlib import Path

import pytest

from corral.base.errors import CorralError
from corral.cli.fetch import _extract


def archive(*members: tuple[str, bytes, str]) -> io.BytesIO:
    """Members as name, type and link; files hold `x`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, link, 0o6755
            info.size = 1 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"x"))
    buffer.seek(0)
    return buffer


def test_files_directories_and_links_within(tmp_path: Path) -> None:
    members = (("out", tarfile.DIRTYPE, ""), ("out/a", tarfile.REGTYPE, ""), ("out/l", tarfile.SYMTYPE, "a"))
    assert _extract(archive(*members), tmp_path) == 1
    assert (tmp_path / "out" / "l").read_bytes() == b"x"
    assert (tmp_path / "out" / "a").stat().st_mode & 0o7000 == 0


@pytest.mark.parametrize(
    "members",
    [
        [("../x", tarfile.REGTYPE, "")],
        [("l", tarfile.SYMTYPE, "/etc")],
        [("l", tarfile.SYMTYPE, "../..")],
        [("d", tarfile.DIRTYPE, ""), ("l", tarfile.SYMTYPE, "d"), ("l/x", tarfile.REGTYPE, "")],
        [("a", tarfile.REGTYPE, ""), ("h", tarfile.LNKTYPE, "a")],
        [("dev", tarfile.CHRTYPE, "")],
        [("pipe", tarfile.FIFOTYPE, "")],
    ],
)
def test_all_else_is_refused(tmp_path: Path, members: list[tuple[str, bytes, str]]) -> None:
    with pytest.raises(CorralError, match="cannot bring back"):
        _extract(archive(*members), tmp_path / "into")
    assert not (tmp_path / "x").exists()


def test_a_link_that_was_there_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorralError, match="cannot bring back"):
        _extract(archive(("out/a", tarfile.REGTYPE, "")), tmp_path / "into")
    assert list((tmp_path / "elsewhere").iterdir()) == []
