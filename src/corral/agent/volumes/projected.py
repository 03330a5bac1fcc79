"""projected: service account tokens, ConfigMaps, Secrets and pod fields in one directory, in memory only."""

from pathlib import Path

from corral.agent.volumes import atomic, payloads, tmpfs
from corral.agent.volumes.api import File, Payload, VolumeContext, VolumeError
from corral.kinds.types import Obj


async def prepare(volume: Obj, context: VolumeContext) -> Path:
    files = await payload(volume["projected"], context)
    tmpfs.ensure(context.directory)
    atomic.write(context.directory, files, context.fs_group)
    return context.directory


async def payload(source: Obj, context: VolumeContext) -> Payload:
    """What the volume shows.

    Raises:
        VolumeError: a part of it is missing or unknown.
    """
    mode = payloads.mode_of(source)
    files: dict[str, File] = {}
    for part in source.get("sources") or ():
        files.update(await _files(part, mode, context))
    return files


async def _files(part: Obj, mode: int, context: VolumeContext) -> Payload:
    if part.get("serviceAccountToken"):
        return await payloads.token(part["serviceAccountToken"], mode, context)
    if part.get("configMap"):
        return await payloads.config_map(part["configMap"], part["configMap"].get("name", ""), mode, context)
    if part.get("secret"):
        return await payloads.secret(part["secret"], part["secret"].get("name", ""), mode, context)
    if part.get("downwardAPI"):
        return payloads.downward(part["downwardAPI"], mode, context)
    kind = next(iter(part), "nothing")
    raise VolumeError(
        f"cannot project {kind}: this machine knows serviceAccountToken, configMap, secret and downwardAPI",
        "remove that source from the volume",
    )
