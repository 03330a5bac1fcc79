"""secret: a Secret's keys as files, in memory only."""

from pathlib import Path

from corral.agent.volumes import atomic, payloads, tmpfs
from corral.agent.volumes.api import VolumeContext
from corral.kinds.types import Obj


async def prepare(volume: Obj, context: VolumeContext) -> Path:
    source = volume["secret"]
    files = await payloads.secret(source, source.get("secretName", ""), payloads.mode_of(source), context)
    tmpfs.ensure(context.directory)
    atomic.write(context.directory, files, context.fs_group)
    return context.directory
