"""The containers of a cell whose server does not run."""

import asyncio

from corral.agent.guard import forget
from corral.agent.layout import Layout
from corral.agent.mounts import unmount_below
from corral.agent.runtime import volatile
from corral.agent.runtime.api import ContainerState, Runtime, Sandbox
from corral.app.config import CellConfig
from corral.app.podnetwork import programs


async def stop_all(config: CellConfig, grace: float) -> int:
    """Stop and remove all containers, sandboxes and the network of a cell; returns how many containers ran.

    `grace` is the seconds between a container's stop signal and SIGKILL.
    """
    from corral.app.runtime import open_runtime

    runtime = open_runtime(config)
    await runtime.open()
    try:
        running = [one for one in await runtime.containers() if one.state is ContainerState.RUNNING]
        await asyncio.gather(*(runtime.stop_container(one.id, grace) for one in running))
        sandboxes: list[Sandbox] = list(await runtime.sandboxes())
        await _remove(runtime, sandboxes)
        await runtime.destroy_network()
        await programs(runtime).remove()
        # The watchman has nobody to watch any more.
        forget(volatile.fence(config.agent_dir))
        # Volumes in memory hold secrets; they are made anew with their pods.
        unmount_below(Layout(config.agent_dir).pods)
    finally:
        await runtime.close()
    return len(running)


async def _remove(runtime: Runtime, sandboxes: list[Sandbox]) -> None:
    await asyncio.gather(*(runtime.remove_sandbox(sandbox.id) for sandbox in sandboxes))
