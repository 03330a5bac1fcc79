"""Images from archives and from a registry, in real containers."""

import asyncio
import hashlib
import io
import json
import socket
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from corral.agent.runtime.api import RuntimeFailure
from corral.agent.runtime.oci import OciRuntime
from corral.testing.runtime_suite import make_pod

BUSYBOX = Path("/usr/bin/busybox")


def _layer(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return stream.getvalue()


def write_image(layout: Path, layers: list[bytes]) -> None:
    """An OCI layout with one image, the way the image spec describes it."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["cat /greeting"], "Env": ["A=1"], "User": "app"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": [put(layer, "layer.v1.tar") for layer in layers],
    }
    described = put(json.dumps(manifest).encode(), "manifest.v1+json")
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


@pytest.fixture
def layout(cell_directory: Path) -> Path:
    """busybox, a user, and a file that the second layer takes away."""
    base = _layer(
        {
            "bin/busybox": BUSYBOX.read_bytes(),
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\napp:x:1234:1234::/app:/bin/sh\n",
            "etc/group": b"root:x:0:\napp:x:1234:\nextra:x:77:app\n",
            "old": b"old",
        },
        dict.fromkeys(("bin/sh", "bin/cat", "bin/id", "bin/ls", "bin/echo"), "busybox"),
    )
    write_image(cell_directory / "layout", [base, _layer({".wh.old": b"", "greeting": b"hello from an image\n"})])
    return cell_directory / "layout"


@pytest.fixture
async def registry(cell_directory: Path) -> AsyncIterator[str]:
    """A docker registry on a free port of the loopback interface; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = cell_directory / "registry.json"
    storage = {"filesystem": {"rootdirectory": str(cell_directory / "registry")}}
    configuration.write_text(
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "error"},
                "storage": storage,
                "http": {"addr": f"127.0.0.1:{port}", "secret": "s"},
            }
        )
    )
    process = await asyncio.create_subprocess_exec(
        "docker-registry",
        "serve",
        str(configuration),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(20):
        while not await _listens(port):
            assert process.returncode is None
    yield f"127.0.0.1:{port}"
    process.terminate()
    await process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def _skopeo(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec("skopeo", "--insecure-policy", "copy", "--quiet", *arguments)
    assert await process.wait() == 0


async def test_a_loaded_layout_runs(runtime: OciRuntime, layout: Path, tmp_path: Path) -> None:
    image = await runtime.images.load(str(layout), "example/greeter:1")
    assert image.references == ("docker.io/example/greeter:1",)
    pod = await make_pod(runtime, tmp_path)
    spec = replace(pod.spec(), image="example/greeter:1")
    await pod.run(spec)
    assert (await pod.finished(spec)).exit_code == 0
    assert pod.log(spec) == ["stdout F hello from an image"]


async def test_the_images_user_and_layers_are_respected(runtime: OciRuntime, layout: Path, tmp_path: Path) -> None:
    image = await runtime.images.load(str(layout), "greeter")
    pod = await make_pod(runtime, tmp_path)
    spec = replace(pod.spec(), image=image.id, args=("id; echo $HOME $A; ls /old",))
    await pod.run(spec)
    assert (await pod.finished(spec)).exit_code == 1
    assert pod.log(spec) == [
        "stdout F uid=1234(app) gid=1234(app) groups=77(extra),1234(app)",
        "stdout F /app 1",
        "stderr F ls: /old: No such file or directory",
    ]


async def test_an_archive_is_loaded_and_removed(runtime: OciRuntime, layout: Path, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    await _skopeo(f"oci:{layout}", f"docker-archive:{archive}:example/archived:2")
    image = await runtime.images.load(str(archive))
    assert image.references == ("docker.io/example/archived:2",)
    pod = await make_pod(runtime, tmp_path)
    await runtime.create_container(replace(pod.spec(), image="example/archived:2"))
    with pytest.raises(RuntimeFailure, match="a container was made from it"):
        await runtime.images.remove(image.id)
    await runtime.remove_sandbox(pod.sandbox.id)
    await runtime.images.remove(image.id)
    assert await runtime.images.status("example/archived:2") is None


async def test_pulls_from_a_registry_are_shared(runtime: OciRuntime, layout: Path, registry: str) -> None:
    await _skopeo("--dest-tls-verify=false", f"oci:{layout}", f"docker://{registry}/team/greeter:1")
    first, second = await asyncio.gather(*(runtime.images.pull(f"{registry}/team/greeter:1") for _ in range(2)))
    assert first == second
    assert f"{registry}/team/greeter:1" in first.references
    by_digest = next(name for name in first.references if "@sha256:" in name)
    assert await runtime.images.status(by_digest) == first
    assert await runtime.images.pull(by_digest) == first


async def test_what_the_registry_says_is_passed_on(runtime: OciRuntime, registry: str) -> None:
    with pytest.raises(RuntimeFailure, match=r"manifest unknown|name unknown|not known to registry") as caught:
        await runtime.images.pull(f"{registry}/team/none:1")
    assert caught.value.reason == "ErrImagePull"
    with pytest.raises(RuntimeFailure) as caught:
        await runtime.images.pull("Not/An:Image:Name")
    assert caught.value.reason == "InvalidImageName"


async def test_images_are_known_to_the_next_agent(runtime: OciRuntime, layout: Path) -> None:
    image = await runtime.images.load(str(layout), "greeter:1")
    await runtime.images.open()
    assert await runtime.images.status("greeter:1") == image
