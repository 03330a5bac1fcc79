"""OCI images on disk: blobs, unpacked layers, and one small record for each image.

DIRECTORY/
  blobs/sha256/HEX      manifests, configs, compressed layers, shared by all images
  layers/HEX            unpacked layers by (the first half of) their uncompressed digest, for overlayfs
  records/HEX.json      an image: its config's digest is its id
  work/                 layouts and logins of pulls under way; cleared at start
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from corral.agent.runtime import spawn
from corral.agent.runtime.api import Image, RuntimeFailure


@dataclass
class ImageRecord:
    """`records/HEX.json`. `layers` are uncompressed digests, the topmost first; `blobs` all it was read from."""

    id: str
    references: list[str]
    layers: list[str]
    blobs: list[str]
    size: int
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def image(self) -> Image:
        return Image(id=self.id, references=tuple(self.references), size=self.size, config=self.config)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a layout's only image says of itself."""

    digest: str
    config_digest: str
    layers: Sequence[str]
    """Digests of the layers' blobs, the lowest first."""
    size: int


def read_manifest(layout: Path, blobs: Path) -> Manifest:
    """The image in an OCI layout that skopeo made.

    Raises:
        RuntimeFailure: it is not an image.
    """
    try:
        index = json.loads((layout / "index.json").read_bytes())
        digest = index["manifests"][0]["digest"]
        manifest = json.loads(blob_path(blobs, digest).read_bytes())
        return Manifest(
            digest=digest,
            config_digest=manifest["config"]["digest"],
            layers=[layer["digest"] for layer in manifest["layers"]],
            size=sum(int(layer["size"]) for layer in manifest["layers"]),
        )
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise RuntimeFailure("ErrImagePull", f"cannot read the image's manifest: {error!r}") from error


def blob_path(blobs: Path, digest: str) -> Path:
    """Where the blob lies; digests come from outside, so their form is checked.

    Raises:
        ValueError: not a digest.
    """
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or any(letter not in "0123456789abcdef" for letter in value):
        raise ValueError(f"{digest!r} is not a sha256 digest")
    return blobs / algorithm / value


class ImageStore:
    """See the module."""

    def __init__(self, directory: Path) -> None:
        self._records_directory = directory / "records"
        self._layers = directory / "layers"
        self._work = directory / "work"
        self.blobs = directory / "blobs"
        self._records: dict[str, ImageRecord] = {}
        self._unpacking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def open(self) -> None:
        """Read the records; clear what was under way."""
        if self._work.exists():
            shutil.rmtree(self._work)
        for path in (self._records_directory, self._layers, self._work, self.blobs):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for leftover in self._layers.glob(".*"):
            shutil.rmtree(leftover)
        for path in self._records_directory.glob("*.json"):
            record = msgspec.json.decode(path.read_bytes(), type=ImageRecord)
            self._records[record.id] = record

    def new_layout(self) -> Path:
        """A path for a layout, in a directory of its own that `drop_layout` removes."""
        return Path(tempfile.mkdtemp(dir=self._work), "layout")

    def drop_layout(self, layout: Path) -> None:
        shutil.rmtree(layout.parent, ignore_errors=True)

    def all(self) -> list[ImageRecord]:
        return list(self._records.values())

    def by_id(self, image_id: str) -> ImageRecord | None:
        return self._records.get(image_id if image_id.startswith("sha256:") else f"sha256:{image_id}")

    def by_reference(self, reference: str) -> ImageRecord | None:
        return next((record for record in self._records.values() if reference in record.references), None)

    def layer_paths(self, record: ImageRecord) -> list[str]:
        """Directories for overlayfs, the topmost first."""
        return [str(self._layer(diff_id)) for diff_id in record.layers]

    def _layer(self, diff_id: str) -> Path:
        return self._layers / diff_id.removeprefix("sha256:")[:32]

    async def take(self, layout: Path, references: Sequence[str]) -> ImageRecord:
        """Unpack the image in `layout` and remember it under `references`, which other images lose.

        Raises:
            RuntimeFailure: `ErrImagePull`.
        """
        manifest = read_manifest(layout, self.blobs)
        try:
            config = json.loads(blob_path(self.blobs, manifest.config_digest).read_bytes())
            diff_ids = [str(diff_id) for diff_id in config["rootfs"]["diff_ids"]]
            if len(diff_ids) != len(manifest.layers):
                raise ValueError("the config does not list the manifest's layers")
            for digest, diff_id in zip(manifest.layers, diff_ids, strict=True):
                await self._unpack(blob_path(self.blobs, digest), blob_path(Path(), diff_id).name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RuntimeFailure("ErrImagePull", f"cannot use the image: {error}") from error
        known = self._records.get(manifest.config_digest)
        kept = known.references if known is not None else []
        record = ImageRecord(
            id=manifest.config_digest,
            references=list(dict.fromkeys([*kept, *references])),
            layers=list(reversed(diff_ids)),
            blobs=[manifest.digest, manifest.config_digest, *manifest.layers],
            size=manifest.size,
            config=config.get("config") or {},
        )
        self._move_references(record, references)
        self._save(record)
        return record

    def _move_references(self, owner: ImageRecord, references: Sequence[str]) -> None:
        for other in self._records.values():
            if other.id != owner.id and set(other.references) & set(references):
                other.references = [name for name in other.references if name not in references]
                self._save(other)

    def _save(self, record: ImageRecord) -> None:
        path = self._records_directory / f"{record.id.removeprefix('sha256:')}.json"
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(record))
        fresh.replace(path)
        self._records[record.id] = record

    async def _unpack(self, blob: Path, diff_id: str) -> None:
        """Unpack a layer once, in a process of its own."""
        target = self._layer(diff_id)
        async with self._unpacking[diff_id]:
            if target.exists():
                return
            argv = [sys.executable, "-m", "corral.agent.runtime.images.unpack", str(blob), str(target)]
            environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            done = await spawn.run([*argv, f"sha256:{diff_id}"], env=environment)
            if done.code:
                raise RuntimeFailure("ErrImagePull", done.words)

    def forget(self, record: ImageRecord) -> None:
        """Drop the record; `collect` removes what nothing needs any more."""
        self._records.pop(record.id, None)
        (self._records_directory / f"{record.id.removeprefix('sha256:')}.json").unlink(missing_ok=True)

    def collect(self, used_layers: set[str]) -> None:
        """Remove layers and blobs that no image and no container (`used_layers`, as paths) needs."""
        layers = {path for record in self._records.values() for path in self.layer_paths(record)} | used_layers
        blobs = {digest for record in self._records.values() for digest in record.blobs}
        if any(self._work.iterdir()):  # a pull under way needs blobs that no record names yet
            return
        for layer in self._layers.iterdir():
            if str(layer) not in layers:
                shutil.rmtree(layer)
        with suppress(FileNotFoundError):
            for blob in (self.blobs / "sha256").iterdir():
                if f"sha256:{blob.name}" not in blobs:
                    blob.unlink()
