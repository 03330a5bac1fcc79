"""A pod's volumes as a whole: made ready together, kept fresh, taken down safely."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from corral.agent import mounts
from corral.agent.env import Surroundings, expand
from corral.agent.layout import Layout
from corral.agent.runtime import trees
from corral.agent.runtime.api import Mount
from corral.agent.volumes import (
    claim,
    config_map,
    downward_api,
    empty_dir,
    host_path,
    projected,
    secret,
    source,
    sub_path,
)
from corral.agent.volumes.api import (
    ObjectReader,
    Prepare,
    SourceFetcher,
    TokenSource,
    VolumeContext,
    VolumeError,
)
from corral.base.errors import CorralError
from corral.kinds.types import Obj

TYPES: Mapping[str, Prepare] = {
    "configMap": config_map.prepare,
    "downwardAPI": downward_api.prepare,
    "emptyDir": empty_dir.prepare,
    "ephemeral": claim.prepare,
    "hostPath": host_path.prepare,
    "persistentVolumeClaim": claim.prepare,
    "projected": projected.prepare,
    "secret": secret.prepare,
}
LIVE = frozenset({"configMap", "downwardAPI", "projected", "secret"})
"""Types that show API objects and follow their changes."""

_PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}


class VolumeManager:
    """Volumes of all pods of this machine; it keeps nothing but directories and mounts."""

    def __init__(self, layout: Layout, objects: ObjectReader, tokens: TokenSource, sources: SourceFetcher) -> None:
        self._layout = layout
        self._objects = objects
        self._tokens = tokens
        self._sources = sources

    async def prepare(self, pod: Obj, around: Surroundings) -> Mapping[str, Path]:
        """Make every volume of `pod` ready; where each one is, by name.

        Raises:
            VolumeError: one of them cannot be; what is ready stays.
        """
        return await self._prepare(pod, around, pod["spec"].get("volumes") or ())

    async def refresh(self, pod: Obj, around: Surroundings) -> None:
        """Show changed ConfigMaps, Secrets, fields and tokens.

        Raises:
            VolumeError: one of them cannot be read; what is there stays as it was.
        """
        live = [volume for volume in pod["spec"].get("volumes") or () if LIVE & volume.keys()]
        await self._prepare(pod, around, live)

    async def _prepare(self, pod: Obj, around: Surroundings, volumes: Sequence[Obj]) -> Mapping[str, Path]:
        uid = pod["metadata"]["uid"]
        self._layout.volumes(uid).mkdir(parents=True, exist_ok=True, mode=0o750)
        ready: dict[str, Path] = {}
        for volume in volumes:
            name = volume["name"]
            context = VolumeContext(
                pod,
                self._layout.volume(uid, name),
                self._objects,
                self._tokens,
                self._sources,
                around,
                self._layout.local_volumes,
            )
            try:
                ready[name] = await self.prepare_one(volume, context)
            except VolumeError as error:
                raise VolumeError(
                    f'MountVolume.SetUp failed for volume "{name}" : {error.message}', error.remedy
                ) from error
            except (OSError, CorralError) as error:
                raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from error
        return ready

    async def prepare_one(self, volume: Obj, context: VolumeContext) -> Path:
        """Make one volume ready; where it is."""
        return await preparer(volume)(volume, context)

    async def teardown(self, uid: str) -> None:
        """Unmount and delete everything of the pod with `uid`. Idempotent.

        Raises:
            MountError: something stays mounted; nothing is deleted then.
        """
        await asyncio.to_thread(remove_tree, self._layout.pod(uid))


def preparer(volume: Obj) -> Prepare:
    """The function of the volume's type.

    Raises:
        VolumeError: the machine has no such type.
    """
    kind = next((key for key in volume if key != "name"), "emptyDir")
    if kind in TYPES:
        return TYPES[kind]
    if kind == "csi":
        driver = (volume["csi"] or {}).get("driver", "")
        if driver == source.DRIVER:
            return source.prepare
        raise VolumeError(
            f"driver name {driver} not found in the list of drivers of this machine", f"use {source.DRIVER}"
        )
    raise VolumeError(
        f"volumes of type {kind} are not supported on this machine", f"use one of {', '.join(sorted(TYPES))}"
    )


def remove_tree(directory: Path) -> None:
    """Unmount everything below `directory`, then delete it without following links.

    Raises:
        MountError: something stays mounted; nothing is deleted then.
    """
    if directory.is_dir():
        mounts.unmount_below(directory)
        with trees.unless_lost(directory):
            trees.remove(directory)


def container_mounts(
    pod: Obj, container: Obj, volumes: Mapping[str, Path], env: Mapping[str, str], layout: Layout
) -> list[Mount]:
    """The container's `volumeMounts` as bind mounts.

    Raises:
        VolumeError: a mount names no volume of the pod, or a bad subPath.
    """
    found = []
    closed = {volume["name"] for volume in pod["spec"].get("volumes") or () if claim.is_read_only(volume)}
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        where = volumes.get(mount["name"])
        if where is None:
            raise VolumeError(f'volume mount "{mount["name"]}" of container "{container["name"]}" names no volume')
        part = expand(mount["subPathExpr"], env) if mount.get("subPathExpr") else mount.get("subPath") or ""
        if part:
            place = layout.pod(pod["metadata"]["uid"]) / "subpaths" / container["name"] / str(index)
            where = sub_path.bind(where, part, place)
        elif not os.path.lexists(where):
            # A hostPath without a type: the container runtime makes the directory, as with other runtimes.
            where.mkdir(parents=True, mode=0o755)
        propagation = _PROPAGATION.get(mount.get("mountPropagation") or "", "rprivate")
        found.append(
            Mount(str(where), mount["mountPath"], bool(mount.get("readOnly")) or mount["name"] in closed, propagation)
        )
    return found
