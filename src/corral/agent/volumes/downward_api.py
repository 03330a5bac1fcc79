"""downwardAPI: fields of the pod as files."""

from pathlib import Path

from corral.agent.volumes import atomic, payloads
from corral.agent.volumes.api import VolumeContext
from corral.kinds.types import Obj


async def prepare(volume: Obj, context: VolumeContext) -> Path:
    source = volume["downwardAPI"]
    files = payloads.downward(source, payloads.mode_of(source), context)
    context.directory.mkdir(mode=0o755, exist_ok=True)
    atomic.write(context.directory, files, context.fs_group)
    return context.directory
