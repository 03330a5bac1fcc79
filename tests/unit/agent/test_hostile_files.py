"""Archives and directories made to hurt: they are refused or survived, and cost little."""

import gzip
import hashlib
import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from corral.agent import files
from corral.agent.files import FileError, tar_stream
from corral.agent.runtime import trees
from corral.agent.volumes.api import VolumeError
from corral.agent.volumes.source import Limits, unpack


def archive(path: Path, raw: bytes) -> str:
    path.write_bytes(gzip.compress(raw, 1))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, data: bytes = b"", mode: int = 0o644) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode = size or len(data), kind, mode
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def refused(tmp_path: Path, raw: bytes, **limits: int) -> str:
    digest = archive(tmp_path / "a.tar.gz", raw)
    with pytest.raises(VolumeError) as caught:
        unpack(tmp_path / "a.tar.gz", digest, tmp_path / "into", Limits(**limits))
    return caught.value.message


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_that_claims_all_memory(tmp_path: Path, kind: bytes) -> None:
    raw = member("x", 64 << 20, kind) + bytes(64 << 20)
    digest = archive(tmp_path / "a.tar.gz", raw)
    tracemalloc.start()
    try:
        with pytest.raises(VolumeError, match="longer than"):
            unpack(tmp_path / "a.tar.gz", digest, tmp_path / "into")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_headers_chained_without_end(tmp_path: Path) -> None:
    header = b"13 path=abcd\n"
    assert "cannot unpack" in refused(tmp_path, member("x", kind=tarfile.XHDTYPE, data=header) * 5_000)


def test_a_broken_stream_is_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    whole = gzip.compress(member("a", data=os.urandom(300_000)))
    path.write_bytes(whole[:100_000] + bytes(200) + whole[100_200:])
    with pytest.raises((VolumeError, OSError)):
        unpack(path, hashlib.sha256(path.read_bytes()).hexdigest(), tmp_path / "into")


def test_members_are_not_kept(tmp_path: Path) -> None:
    digest = archive(tmp_path / "a.tar.gz", b"".join(member("same") for _ in range(20_000)))
    tracemalloc.start()
    try:
        unpack(tmp_path / "a.tar.gz", digest, tmp_path / "into")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_too_many_and_too_deep(tmp_path: Path) -> None:
    assert "too large" in refused(tmp_path, member("a") * 20, members=10)
    assert "directories deep" in refused(tmp_path, member("d/" * 300 + "f"))


def test_set_user_id_bits_do_not_arrive(tmp_path: Path) -> None:
    digest = archive(tmp_path / "a.tar.gz", member("a", mode=0o6755) + member("d", kind=tarfile.DIRTYPE, mode=0o7777))
    unpack(tmp_path / "a.tar.gz", digest, tmp_path / "into")
    assert (tmp_path / "into" / "a").stat().st_mode & 0o7000 == 0
    assert (tmp_path / "into" / "d").stat().st_mode & 0o7000 == 0


def test_devices_and_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    assert "device" in refused(tmp_path, member("null", kind=tarfile.CHRTYPE))
    link = tarfile.TarInfo("l")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    assert "behind a link" in refused(tmp_path, link.tobuf() + member("l/passwd", data=b"x"))
    assert "outside" in refused(tmp_path, member("../x"))


def test_a_file_that_is_cut_short_while_it_is_read_costs_no_memory(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.touch()
    os.truncate(big, 1 << 36)
    info = big.stat()
    os.truncate(big, 10)
    with big.open("rb") as stream:
        entry = files._Entry("big", info, stream.fileno())
        pieces = files._content(entry)
        assert max(len(next(pieces)) for _ in range(50)) <= 256 * 1024


def nested(top: Path, depth: int) -> None:
    """Directories in directories, made as a program makes them that goes ever deeper."""
    top.mkdir()
    here = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


async def test_endless_directories_end_the_reading_not_the_agent(tmp_path: Path) -> None:
    nested(tmp_path / "top", 2_500)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileError, match="directories deep"):
        async for _ in tar_stream(str(tmp_path), "top"):
            pass
    assert len(os.listdir("/proc/self/fd")) == before
    trees.remove(tmp_path / "top")
    assert not (tmp_path / "top").exists()


def test_removing_follows_no_link_and_nothing_there_is_fine(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "link").symlink_to(tmp_path / "kept")
    trees.remove(tmp_path / "gone")
    trees.remove(tmp_path / "gone")
    assert (tmp_path / "kept" / "file").exists()
    assert not (tmp_path / "gone").exists()


def test_whatever_tar_says_of_itself_is_read_the_same(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("long/" + "n" * 200)
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    digest = archive(tmp_path / "a.tar.gz", buffer.getvalue())
    unpack(tmp_path / "a.tar.gz", digest, tmp_path / "into")
    assert (tmp_path / "into" / "long" / ("n" * 200)).read_bytes() == b"abc"
