"""A real runtime for each test, in a directory with a short path."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from corral.agent.runtime.oci import OciRuntime, choose
from corral.agent.runtime.oci.engine import Choice
from corral.base.clock import SystemClock

MakeRuntime = Callable[[], OciRuntime]


@pytest.fixture
def engine() -> Choice:
    """Which OCI runtime to use; a test class may override it."""
    return "auto"


@pytest.fixture
def make_runtime(cell_directory: Path, engine: Choice) -> MakeRuntime:
    """Makes runtimes over one directory: the second one is the agent after a restart."""
    name = cell_directory.name

    def make() -> OciRuntime:
        return OciRuntime(
            cell_directory, network=replace(choose(name), assigned=True), clock=SystemClock(), cell=name, engine=engine
        )

    return make


@pytest.fixture
async def runtime(make_runtime: MakeRuntime) -> AsyncIterator[OciRuntime]:
    runtime = make_runtime()
    await runtime.open()
    yield runtime
    await _clear(runtime)


@pytest.fixture
async def next_agent(make_runtime: MakeRuntime) -> AsyncIterator[OciRuntime]:
    """The runtime of the agent after the one that died; a test opens it."""
    runtime = make_runtime()
    yield runtime
    await _clear(runtime)


async def _clear(runtime: OciRuntime) -> None:
    """Take everything of the runtime's away, even if the test failed before it opened it."""
    if runtime.version.startswith("corral+oci:"):
        await runtime.open()
    for sandbox in await runtime.sandboxes():
        await runtime.remove_sandbox(sandbox.id)
    await runtime.destroy_network()
    await runtime.close()
