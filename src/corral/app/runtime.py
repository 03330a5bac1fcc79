"""This machine's container runtime, as a cell's configuration has it."""

from corral.agent.runtime.oci import OciRuntime, choose
from corral.app.clock import process_clock
from corral.app.config import CellConfig


def open_runtime(config: CellConfig) -> OciRuntime:
    """The runtime of a cell; call its `open` before use."""
    return OciRuntime(
        config.agent_dir,
        network=choose(config.name, config.machine),
        clock=process_clock(config.data_dir),
        cell=config.name,
        engine=config.engine,
        boot=config.boot,
    )
