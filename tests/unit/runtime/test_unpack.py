"""Layers from untrusted archives."""

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from corral.agent.runtime.images import unpack
from corral.agent.runtime.images.unpack import LayerError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners and whiteouts need root")

Entry = tuple[str, bytes, str]
"""(name, type, content or link target)"""


def _tar(entries: Iterable[Entry], *, compress: bool = False) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.uid, entry.gid = kind, 0o4750, 12, 34
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                entry.linkname = content
                archive.addfile(entry)
            else:
                data = content.encode()
                entry.size = len(data) if kind == tarfile.REGTYPE else 0
                archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(stream.getvalue()) if compress else stream.getvalue()


def _unpack(tmp_path: Path, data: bytes, *, digest: str = "", most: int = unpack.MOST_BYTES) -> Path:
    blob, target = tmp_path / "blob", tmp_path / "layers" / "one"
    blob.write_bytes(data)
    if not digest:
        plain = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        digest = f"sha256:{hashlib.sha256(plain).hexdigest()}"
    unpack.unpack(blob, target, digest, most)
    return target


FILE, DIRECTORY, SYMLINK, HARDLINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize("compress", [False, True])
def test_plain_entries(tmp_path: Path, compress: bool) -> None:
    entries = [("d", DIRECTORY, ""), ("d/f", FILE, "text"), ("l", SYMLINK, "d/f"), ("h", HARDLINK, "d/f")]
    root = _unpack(tmp_path, _tar(entries, compress=compress))
    assert (root / "l").read_text() == "text"
    assert (root / "h").stat().st_ino == (root / "d/f").stat().st_ino
    status = (root / "d/f").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12, 34, 0o4750)


def test_missing_parents_are_made(tmp_path: Path) -> None:
    root = _unpack(tmp_path, _tar([("./a/b/c", FILE, "x")]))
    assert (root / "a/b/c").read_text() == "x"


def test_whiteouts_become_overlays_own(tmp_path: Path) -> None:
    root = _unpack(tmp_path, _tar([("d/.wh.gone", FILE, ""), ("o/.wh..wh..opq", FILE, "")]))
    status = (root / "d/gone").stat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0
    assert os.getxattr(root / "o", "trusted.overlay.opaque") == b"y"


def test_later_entries_replace_earlier_ones(tmp_path: Path) -> None:
    entries = [("a/f", FILE, "1"), ("a", FILE, "file"), ("b", SYMLINK, "/x"), ("b/c", FILE, "2")]
    with pytest.raises(LayerError):
        _unpack(tmp_path, _tar([*entries[:2], ("a/g", FILE, "3")]))
    root = _unpack(tmp_path, _tar(entries[:2]))
    assert (root / "a").read_text() == "file"


@pytest.mark.parametrize(
    "entries",
    [
        [("../escape", FILE, "x")],
        [("a/../../escape", FILE, "x")],
        [("h", HARDLINK, "../../../etc/passwd")],
        [("h", HARDLINK, "/etc/passwd")],
        [("l", SYMLINK, "/etc"), ("h", HARDLINK, "l/passwd")],
    ],
)
def test_paths_and_links_that_lead_out_are_refused(tmp_path: Path, entries: list[Entry]) -> None:
    with pytest.raises(LayerError):
        _unpack(tmp_path, _tar(entries))
    assert not (tmp_path / "layers" / "one").exists()
    assert list((tmp_path / "layers").iterdir()) == []
    assert not (tmp_path / "escape").exists()


@pytest.mark.parametrize("target", ["/", "/..", "../../..", "{tmp}"])
def test_a_symlink_leads_nowhere_but_inside(tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    entries = [("l", SYMLINK, target.format(tmp=outside)), ("l/planted", FILE, "x")]
    try:
        root = _unpack(tmp_path, _tar(entries))
    except LayerError:
        root = tmp_path
    assert not (outside / "planted").exists()
    assert not Path("/planted").exists()
    assert not (tmp_path / "planted").exists()
    assert root == tmp_path or (root / "planted").exists()


def test_a_file_does_not_follow_a_symlink_in_its_place(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    root = _unpack(tmp_path, _tar([("f", SYMLINK, str(victim)), ("f", FILE, "new")]))
    assert victim.read_text() == "untouched"
    assert (root / "f").read_text() == "new"
    assert not (root / "f").is_symlink()


def test_device_nodes_are_left_out(tmp_path: Path) -> None:
    root = _unpack(
        tmp_path, _tar([("sda", tarfile.BLKTYPE, ""), ("mem", tarfile.CHRTYPE, ""), ("p", tarfile.FIFOTYPE, "")])
    )
    assert [path.name for path in root.iterdir()] == ["p"]


def test_bombs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="more than 100000 bytes"):
        _unpack(tmp_path, _tar([("zeros", FILE, "0" * 1_000_000)], compress=True), most=100_000)
    unpacker = unpack.Unpacker(tmp_path, most_entries=2)
    unpacker.add(tarfile.TarInfo("a"), io.BytesIO())
    unpacker.add(tarfile.TarInfo("b"), io.BytesIO())
    with pytest.raises(LayerError, match="too many entries"):
        unpacker.add(tarfile.TarInfo("c"), io.BytesIO())
    unpacker.close()


def test_content_that_is_not_what_the_image_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="cannot trust the layer"):
        _unpack(tmp_path, _tar([("f", FILE, "x")]), digest=f"sha256:{'0' * 64}")
    assert list((tmp_path / "layers").iterdir()) == []


def test_garbage_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"garbage" * 1000, gzip.compress(b"garbage" * 1000)[:-9]):
        with pytest.raises(LayerError):
            _unpack(tmp_path, data, digest="sha256:none")
