"""Volumes: what pods see, that changes are seen at once, and that strangers' archives stay where they belong."""

import base64
import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from corral.agent import mounts
from corral.agent.env import Surroundings
from corral.agent.layout import Layout
from corral.agent.volumes import atomic, source, sub_path
from corral.agent.volumes.api import File, Token, VolumeError
from corral.agent.volumes.manager import VolumeManager, container_mounts, remove_tree
from corral.kinds.types import Obj, Resource


@dataclass
class Cell:
    """ConfigMaps, Secrets, tokens and sources in dictionaries."""

    objects: dict[tuple[str, str], Obj] = field(default_factory=dict)
    archives: dict[str, bytes] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)

    async def get(self, resource: Resource, namespace: str, name: str, pod_uid: str) -> Obj | None:
        return self.objects.get((resource.plural, name))

    async def token(self, pod: Obj, audience: str, seconds: int) -> Token:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        return Token(f"token for {audience or 'api'}", now, now)

    async def fetch(self, namespace: str, digest: str, into: Path) -> None:
        self.fetched.append(digest)
        into.write_bytes(self.archives[digest])


@pytest.fixture
def cell() -> Cell:
    return Cell()


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    yield Layout(tmp_path)
    mounts.unmount_below(tmp_path)


def pod(*volumes: Obj, mounts_: list[Obj] | None = None, **spec: Any) -> Obj:
    metadata = {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app": "web"}}
    container = {"name": "c", "volumeMounts": mounts_ or []}
    return {"metadata": metadata, "spec": {"volumes": list(volumes), "containers": [container], **spec}}


async def prepare(cell: Cell, layout: Layout, obj: Obj) -> dict[str, Path]:
    return dict(await VolumeManager(layout, cell, cell, cell).prepare(obj, Surroundings(node_name="m1")))


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_config_map(cell: Cell, layout: Layout) -> None:
    cell.objects["configmaps", "paint"] = {"data": {"color": "red"}, "binaryData": {"raw": b64("\x00")}}
    ready = await prepare(cell, layout, pod({"name": "v", "configMap": {"name": "paint"}}))
    assert (ready["v"] / "color").read_text() == "red"
    assert (ready["v"] / "raw").read_bytes() == b"\x00"
    assert stat.S_IMODE((ready["v"] / "color").stat().st_mode) == 0o644


async def test_items_and_modes(cell: Cell, layout: Layout) -> None:
    cell.objects["configmaps", "paint"] = {"data": {"color": "red", "other": "x"}}
    items = [{"key": "color", "path": "deep/er/c", "mode": 0o600}]
    ready = await prepare(
        cell, layout, pod({"name": "v", "configMap": {"name": "paint", "items": items, "defaultMode": 0o400}})
    )
    found = ready["v"] / "deep/er/c"
    assert (found.read_text(), stat.S_IMODE(found.stat().st_mode)) == ("red", 0o600)
    assert not (ready["v"] / "other").exists()


async def test_secrets_are_in_memory(cell: Cell, layout: Layout) -> None:
    cell.objects["secrets", "key"] = {"data": {"pass": b64("s3")}}
    ready = await prepare(cell, layout, pod({"name": "v", "secret": {"secretName": "key", "defaultMode": 0o400}}))
    assert (ready["v"] / "pass").read_text() == "s3"
    assert os.path.ismount(ready["v"])


async def test_projected(cell: Cell, layout: Layout) -> None:
    cell.objects["configmaps", "kube-root-ca.crt"] = {"data": {"ca.crt": "CA"}}
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        {"secret": {"name": "none", "optional": True}},
    ]
    ready = await prepare(cell, layout, pod({"name": "v", "projected": {"sources": sources}}))
    texts = {path.name: path.read_text() for path in ready["v"].iterdir() if not path.name.startswith("..")}
    assert texts == {"token": "token for api", "ca.crt": "CA", "namespace": "shop"}


async def test_downward_api(cell: Cell, layout: Layout) -> None:
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "requests.cpu"}},
    ]
    ready = await prepare(cell, layout, pod({"name": "v", "downwardAPI": {"items": items}}))
    assert (ready["v"] / "labels").read_text() == 'app="web"'
    assert (ready["v"] / "cpu").read_text() == "0"


async def test_changes_show_at_once(cell: Cell, layout: Layout) -> None:
    obj = pod({"name": "v", "configMap": {"name": "paint"}})
    cell.objects["configmaps", "paint"] = {"data": {"a": "1", "b": "1"}}
    ready = await prepare(cell, layout, obj)
    before = os.readlink(ready["v"] / "..data")
    cell.objects["configmaps", "paint"] = {"data": {"a": "2", "c": "2"}}
    await VolumeManager(layout, cell, cell, cell).refresh(obj, Surroundings())
    assert os.readlink(ready["v"] / "..data") != before
    names = {path.name: path.read_text() for path in ready["v"].iterdir() if not path.name.startswith("..")}
    assert names == {"a": "2", "c": "2"}
    assert sum(path.name.startswith("..") for path in ready["v"].iterdir()) == 2


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        ({"configMap": {"name": "paint", "items": [{"key": "x", "path": "x"}]}}, "non-existent config key: x"),
        ({"configMap": {"name": "paint", "items": [{"key": "color", "path": "../x"}]}}, "invalid path"),
        ({"persistentVolumeClaim": {"claimName": "c"}}, 'persistentvolumeclaim "c" not found'),
        ({"csi": {"driver": "other.example.com"}}, "other.example.com not found in the list of drivers"),
        ({"csi": {"driver": source.DRIVER}}, "no valid digest"),
        ({"nfs": {}}, "type nfs are not supported"),
        ({"emptyDir": {"medium": "HugePages"}}, "offers disk and Memory"),
        ({"hostPath": {"path": "/nonexistent/x", "type": "Directory"}}, "is not a directory"),
        ({"hostPath": {"path": "/etc/../root"}}, "must be absolute and without"),
        ({"hostPath": {"path": "/etc", "type": "File"}}, "is not a file"),
        ({"hostPath": {"path": "/etc", "type": "Strange"}}, "type 'Strange' is unknown"),
    ],
)
async def test_what_cannot_be_mounted_is_named(cell: Cell, layout: Layout, volume: Obj, said: str) -> None:
    cell.objects["configmaps", "paint"] = {"data": {"color": "red"}}
    with pytest.raises(VolumeError, match=r'MountVolume\.SetUp failed for volume "v" : ') as caught:
        await prepare(cell, layout, pod({"name": "v", **volume}))
    assert said in caught.value.message


async def test_empty_dirs(cell: Cell, layout: Layout) -> None:
    ready = await prepare(
        cell,
        layout,
        pod(
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "64Ki"}},
            securityContext={"fsGroup": 1234},
        ),
    )
    assert stat.S_IMODE(ready["disk"].stat().st_mode) == 0o2777
    assert ready["disk"].stat().st_gid == 1234
    with pytest.raises(OSError, match="No space left"):
        (ready["memory"] / "big").write_bytes(bytes(1 << 20))


async def test_empty_dirs_keep_their_files_when_prepared_again(cell: Cell, layout: Layout) -> None:
    obj = pod({"name": "v", "emptyDir": {"medium": "Memory"}})
    ready = await prepare(cell, layout, obj)
    (ready["v"] / "kept").touch()
    again = await prepare(cell, layout, obj)
    assert (again["v"] / "kept").exists()


async def test_host_paths_are_made_where_asked(cell: Cell, layout: Layout, tmp_path: Path) -> None:
    ready = await prepare(
        cell,
        layout,
        pod(
            {"name": "d", "hostPath": {"path": str(tmp_path / "a/b"), "type": "DirectoryOrCreate"}},
            {"name": "f", "hostPath": {"path": str(tmp_path / "f"), "type": "FileOrCreate"}},
        ),
    )
    assert ready["d"].is_dir()
    assert ready["f"].is_file()


async def test_teardown_unmounts_first(cell: Cell, layout: Layout, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    obj = pod(
        {"name": "s", "emptyDir": {"medium": "Memory"}},
        {"name": "h", "hostPath": {"path": str(outside)}},
        mounts_=[{"name": "h", "mountPath": "/h", "subPath": "sub"}],
    )
    manager = VolumeManager(layout, cell, cell, cell)
    ready = await manager.prepare(obj, Surroundings())
    container_mounts(obj, obj["spec"]["containers"][0], ready, {}, layout)
    assert mounts.mounts_below(layout.pod("u1"))
    await manager.teardown("u1")
    assert not layout.pod("u1").exists()
    assert (outside / "precious").exists()
    assert (outside / "sub").is_dir()
    await manager.teardown("u1")


# Mounts and sub paths.


async def test_mounts(cell: Cell, layout: Layout) -> None:
    wanted: list[Obj] = [
        {"name": "v", "mountPath": "/a", "readOnly": True, "mountPropagation": "HostToContainer"},
        {"name": "v", "mountPath": "/b", "subPathExpr": "x-$(NAME)/y"},
    ]
    obj = pod({"name": "v", "emptyDir": {}}, mounts_=wanted)
    ready = await prepare(cell, layout, obj)
    first, second = container_mounts(obj, obj["spec"]["containers"][0], ready, {"NAME": "1"}, layout)
    assert (first.source, first.read_only, first.propagation) == (str(ready["v"]), True, "rslave")
    assert (ready["v"] / "x-1/y").is_dir()
    (ready["v"] / "x-1/y/f").touch()
    assert os.listdir(second.source) == ["f"]


@pytest.mark.parametrize("path", ["../up", "/abs", "link", "link/deeper", "a/../../b"])
def test_sub_paths_stay_inside(tmp_path: Path, path: str) -> None:
    volume = tmp_path / "v"
    volume.mkdir()
    (volume / "link").symlink_to("/etc")
    with pytest.raises(VolumeError):
        sub_path.bind(volume, path, tmp_path / "place")


def test_sub_paths_of_files_and_inner_links(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    atomic.write(_made(volume), {"conf": File(b"x", 0o644)})
    place = sub_path.bind(volume, "conf", tmp_path / "places" / "0")
    try:
        assert place.read_bytes() == b"x"
        atomic.write(volume, {"conf": File(b"y", 0o644)})
        sub_path.bind(volume, "conf", place)
        assert place.read_bytes() == b"y"
        assert len(mounts.mounts_below(place)) == 1
    finally:
        mounts.unmount_below(tmp_path)


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_nothing_is_deleted_below_a_link(tmp_path: Path) -> None:
    outside = _made(tmp_path / "outside")
    (outside / "precious").touch()
    inside = _made(tmp_path / "pod")
    (inside / "link").symlink_to(outside)
    remove_tree(inside)
    assert (outside / "precious").exists()


# Sources.


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> tuple[str, bytes]:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    packed = gzip.compress(raw.getvalue())
    return hashlib.sha256(packed).hexdigest(), packed


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


async def test_a_source_is_unpacked_once_and_kept(cell: Cell, layout: Layout) -> None:
    digest, packed = archive(
        (member("dir", tarfile.DIRTYPE, mode=0o755), b""),
        (member("./dir/run.sh", mode=0o755), b"echo hi"),
        (member("python", tarfile.SYMTYPE, "/usr/bin/python3"), b""),
        (member("twin", tarfile.LNKTYPE, "dir/run.sh"), b""),
    )
    cell.archives[digest] = packed
    volume = {"name": "work", "csi": {"driver": source.DRIVER, "volumeAttributes": {"digest": digest}}}
    obj = pod(volume, securityContext={"fsGroup": 77})
    ready = await prepare(cell, layout, obj)
    run = ready["work"] / "dir/run.sh"
    assert run.read_text() == "echo hi"
    assert stat.S_IMODE(run.stat().st_mode) & 0o775 == 0o775
    assert run.stat().st_gid == 77
    assert os.readlink(ready["work"] / "python") == "/usr/bin/python3"
    assert (ready["work"] / "twin").samefile(run)
    (ready["work"] / "made").touch()
    again = await prepare(cell, layout, obj)
    assert (again["work"] / "made").exists()
    assert cell.fetched == [digest]
    assert sorted(path.name for path in layout.volumes("u1").iterdir()) == ["work"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([(member("../up"), b"")], "leads outside"),
        ([(member("/etc/x"), b"")], "leads outside"),
        ([(member("a/../../x"), b"")], "leads outside"),
        ([(member("l", tarfile.SYMTYPE, "/etc"), b""), (member("l/x"), b"evil")], "behind a link"),
        ([(member("l", tarfile.SYMTYPE, "/etc"), b""), (member("l/d/x"), b"evil")], "behind a link"),
        ([(member("h", tarfile.LNKTYPE, "../../etc/passwd"), b"")], "leads outside"),
        (
            [(member("l", tarfile.SYMTYPE, "/etc/passwd"), b""), (member("h", tarfile.LNKTYPE, "l"), b"")],
            "names no file",
        ),
        ([(member("h", tarfile.LNKTYPE, "missing"), b"")], "names no file"),
        ([(member("d", tarfile.CHRTYPE), b"")], "special file"),
        ([(member("p", tarfile.FIFOTYPE), b"")], "special file"),
        ([(member("big"), bytes(2000))], "too large"),
        ([(member(f"f{index}"), b"") for index in range(9)], "too large"),
    ],
)
def test_a_hostile_archive_is_refused(tmp_path: Path, members: list[Any], said: str) -> None:
    digest, packed = archive(*members)
    (tmp_path / "a").write_bytes(packed)
    with pytest.raises(VolumeError, match=said):
        source.unpack(tmp_path / "a", digest, tmp_path / "into", source.Limits(bytes=1000, members=8))
    assert not (tmp_path.parent / "up").exists()


def test_a_link_that_is_replaced_by_a_file_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("safe")
    digest, packed = archive((member("l", tarfile.SYMTYPE, str(target)), b""), (member("l"), b"evil"))
    (tmp_path / "a").write_bytes(packed)
    source.unpack(tmp_path / "a", digest, tmp_path / "into")
    assert target.read_text() == "safe"
    assert (tmp_path / "into/l").read_text() == "evil"


@pytest.mark.parametrize(("content", "said"), [(b"other", "SHA-256 is"), (None, "cannot unpack")])
def test_a_wrong_or_broken_archive_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    broken = b"not a tar at all"
    (tmp_path / "a").write_bytes(content or broken)
    with pytest.raises(VolumeError, match=said):
        source.unpack(tmp_path / "a", hashlib.sha256(broken).hexdigest(), tmp_path / "into")
