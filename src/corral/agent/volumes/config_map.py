"""configMap: a ConfigMap's keys as files."""

from pathlib import Path

from corral.agent.volumes import atomic, payloads
from corral.agent.volumes.api import VolumeContext
from corral.kinds.types import Obj


async def prepare(volume: Obj, context: VolumeContext) -> Path:
    source = volume["configMap"]
    files = await payloads.config_map(source, source.get("name", ""), payloads.mode_of(source), context)
    context.directory.mkdir(mode=0o755, exist_ok=True)
    atomic.write(context.directory, files, context.fs_group)
    return context.directory
