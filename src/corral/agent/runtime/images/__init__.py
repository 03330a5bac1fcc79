"""Images on this machine: the image `host`, and OCI images unpacked into layers for overlayfs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.agent.runtime.api import Image, ImageAuth, Mount, RuntimeFailure
from corral.agent.runtime.images import host


@dataclass(frozen=True, slots=True)
class Stored:
    """An image and what a container's root is made of: layers (topmost first) and mounts."""

    image: Image
    layers: Sequence[str]
    mounts: Sequence[Mount] = ()


class MachineImages:
    """The seam's Images."""

    def __init__(self, directory: Path) -> None:
        self.host = host.HostImage(directory / "host")

    async def open(self) -> None:
        self.host.layer()

    async def find(self, reference: str) -> Stored | None:
        if reference == host.ID:
            return Stored(self.host.image, [self.host.layer()], host.MOUNTS)
        return None

    async def status(self, reference: str) -> Image | None:
        stored = await self.find(reference)
        return stored.image if stored is not None else None

    async def pull(self, reference: str, auths: Sequence[ImageAuth] = ()) -> Image:
        if reference == host.ID:
            return self.host.image
        raise RuntimeFailure("ErrImagePull", f"cannot pull {reference}")

    async def load(self, path: str, reference: str = "") -> Image:
        raise RuntimeFailure("ErrImagePull", f"cannot load {path}")

    async def list(self) -> Sequence[Image]:
        return [self.host.image]

    async def remove(self, image_id: str) -> None:
        return
