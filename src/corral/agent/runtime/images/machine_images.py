"""The seam's Images for a real machine: the image `host`, and whatever was pulled or loaded."""

import asyncio
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.agent.runtime.api import Image, ImageAuth, Mount, RuntimeFailure
from corral.agent.runtime.images import host, skopeo
from corral.agent.runtime.images.reference import is_id, parse
from corral.agent.runtime.images.store import ImageRecord, ImageStore, read_manifest


@dataclass(frozen=True, slots=True)
class Stored:
    """An image and what a container's root is made of: layers (topmost first) and mounts."""

    image: Image
    layers: Sequence[str]
    mounts: Sequence[Mount] = ()


class MachineImages:
    """See the module. `used` tells which images and layers containers stand on."""

    def __init__(self, directory: Path, used: Callable[[], tuple[set[str], set[str]]]) -> None:
        self.host = host.HostImage(directory / "host")
        self._store = ImageStore(directory)
        self._used = used
        self._pulls: dict[str, asyncio.Task[Image]] = {}

    async def open(self) -> None:
        self._store.open()
        await asyncio.to_thread(self.host.layer)

    async def close(self) -> None:
        """End the pulls under way."""
        for task in self._pulls.values():
            task.cancel()
        await asyncio.gather(*self._pulls.values(), return_exceptions=True)

    async def find(self, reference: str) -> Stored | None:
        """The image, ready to stand on."""
        if reference == host.ID:
            return Stored(self.host.image, [self.host.layer()], self.host.mounts())
        record = self._record(reference)
        return Stored(record.image, self._store.layer_paths(record)) if record is not None else None

    def _record(self, reference: str) -> ImageRecord | None:
        if is_id(reference):
            return self._store.by_id(reference)
        return self._store.by_reference(str(parse(reference)))

    async def status(self, reference: str) -> Image | None:
        stored = await self.find(reference)
        return stored.image if stored is not None else None

    async def list(self) -> Sequence[Image]:
        return [self.host.image, *(record.image for record in self._store.all())]

    async def pull(self, reference: str, auths: Sequence[ImageAuth] = ()) -> Image:
        if reference == host.ID:
            return self.host.image
        key = repr((str(parse(reference)), [(auth.username, hash(auth.password)) for auth in auths]))
        task = self._pulls.get(key)
        if task is None:
            task = asyncio.create_task(self._pull(reference, auths), name=f"pull {reference}")
            self._pulls[key] = task
            task.add_done_callback(lambda _: self._pulls.pop(key, None))
        return await asyncio.shield(task)

    async def _pull(self, text: str, auths: Sequence[ImageAuth]) -> Image:
        reference = parse(text)
        layout = self._store.new_layout()
        try:
            await skopeo.pull(reference, auths, layout, self._store.blobs)
            digest = read_manifest(layout, self._store.blobs).digest
            names = [str(reference), f"{reference.registry}/{reference.repository}@{digest}"]
            return (await self._store.take(layout, names)).image
        finally:
            self._store.drop_layout(layout)

    async def load(self, path: str, reference: str = "") -> Image:
        source, found = await asyncio.to_thread(recognise, Path(path))
        name = reference or found
        references = [str(parse(name))] if name else []
        layout = self._store.new_layout()
        try:
            await skopeo.copy(source, layout, self._store.blobs)
            return (await self._store.take(layout, references)).image
        finally:
            self._store.drop_layout(layout)

    async def remove(self, image_id: str) -> None:
        record = self._store.by_id(image_id)
        if record is None:
            return
        images, layers = self._used()
        if record.id in images:
            raise RuntimeFailure("ImageInUse", f"cannot remove image {image_id}: a container was made from it")
        self._store.forget(record)
        await asyncio.to_thread(self._store.collect, layers)


def recognise(path: Path) -> tuple[str, str]:
    """What is at `path` in skopeo's notation, and the name that it gives itself (or nothing).

    Raises:
        RuntimeFailure: `ErrImagePull`, when it is no image.
    """
    try:
        if path.is_dir():
            return f"oci:{path}", _layout_name((path / "index.json").read_bytes())
        with tarfile.open(path) as archive:
            names = {name.removeprefix("./"): name for name in archive.getnames()}
            if "index.json" in names and "oci-layout" in names:
                return f"oci-archive:{path}", _layout_name(_member(archive, names["index.json"]))
            if "manifest.json" in names:
                tags = json.loads(_member(archive, names["manifest.json"]))[0].get("RepoTags") or [""]
                return f"docker-archive:{path}", tags[0]
    except (OSError, tarfile.TarError, ValueError, LookupError) as error:
        raise RuntimeFailure("ErrImagePull", f"cannot read an image from {path}: {error}") from error
    raise RuntimeFailure(
        "ErrImagePull",
        f"cannot read an image from {path}: it is neither an OCI archive nor a docker archive",
        "make one with: skopeo copy docker://NAME oci-archive:FILE",
    )


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    return file.read() if file is not None else b""


def _layout_name(index: bytes) -> str:
    """The name in an OCI layout's index; a bare tag is no name."""
    for manifest in json.loads(index).get("manifests", ()):
        annotations = manifest.get("annotations") or {}
        name = annotations.get("io.containerd.image.name") or annotations.get("org.opencontainers.image.ref.name") or ""
        if ":" in name or "/" in name:
            return str(name)
    return ""
