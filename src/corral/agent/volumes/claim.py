"""persistentVolumeClaim and ephemeral: the volume that a claim is bound to, if it is a path of this machine.

Kinds of volumes: `local` and `hostPath`. What is bound, and to whom, is believed only if claim and volume both say so.
A volume of the class `corral-local` is a directory of the agent's own, made here at its first use; its path follows
from its name, so that nothing that is written into the object can lead elsewhere.
"""

import os
import stat
from pathlib import Path

from corral.agent.volumes import host_path
from corral.agent.volumes.api import VolumeContext, VolumeError
from corral.kinds.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from corral.kinds.storage import claims_of, is_local, machine_of, read_claim, read_volume
from corral.kinds.types import Obj


async def prepare(volume: Obj, context: VolumeContext) -> Path:
    ((name, own),) = claims_of({**context.pod, "spec": {"volumes": [volume]}})
    claim = await context.objects.get(PERSISTENT_VOLUME_CLAIMS, context.namespace, name, context.uid)
    if claim is None:
        raise VolumeError(f'persistentvolumeclaim "{name}" not found')
    view = read_claim(claim)
    if own and view.owner != context.uid:
        raise VolumeError(f'persistentvolumeclaim "{name}" was not created for this pod')
    if not view.bound:
        raise VolumeError(f'persistentvolumeclaim "{name}" is not bound')
    given = await context.objects.get(PERSISTENT_VOLUMES, "", view.volume, context.uid)
    if given is None:
        raise VolumeError(f'persistentvolume "{view.volume}" not found')
    meaning = read_volume(given)
    if meaning.reference is None or (meaning.reference.key, meaning.reference.uid) != (view.key, view.uid):
        raise VolumeError(f'persistentvolume "{view.volume}" is not bound to the claim "{name}"')
    if meaning.block:
        raise VolumeError(f'persistentvolume "{view.volume}" is a block device: this machine mounts file systems only')
    return _path(given, context)


def is_read_only(volume: Obj) -> bool:
    """Whether the pod wants the claim of `volume` for reading only."""
    return bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))


def _path(volume: Obj, context: VolumeContext) -> Path:
    spec, name = volume["spec"], str(volume["metadata"]["name"])
    if "hostPath" in spec:
        path = Path(spec["hostPath"].get("path", ""))
        host_path.check(path, spec["hostPath"].get("type") or "")
        return path
    if "local" not in spec:
        kinds = ", ".join(sorted(spec.keys() & {"csi", "nfs", "iscsi", "fc", "rbd", "cephfs"})) or "its kind"
        raise VolumeError(f'persistentvolume "{name}" cannot be mounted here: {kinds} is not supported', "use local")
    path = Path(spec["local"].get("path", ""))
    if not is_local(volume):
        host_path.check(path, "Directory")
        return path
    if machine_of(volume) != context.around.node_name:
        raise VolumeError(f'persistentvolume "{name}" is on the machine {machine_of(volume)!r}')
    ours = context.local_volumes.absolute() / name
    if path != ours:
        raise VolumeError(f'persistentvolume "{name}" is at {path}, where this machine keeps none', f"expected {ours}")
    _make(ours, context.fs_group)
    return ours


def _make(path: Path, group: int | None) -> None:
    """The volume's directory, for whoever is in the pod, as local-path-provisioner makes it (0777)."""
    try:
        os.mkdir(path)
        os.chmod(path, 0o777)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise VolumeError(f"{path} is no directory") from None
    if group is not None and os.lstat(path).st_gid != group:
        os.chown(path, -1, group, follow_symlinks=False)
        os.chmod(path, 0o2777)
