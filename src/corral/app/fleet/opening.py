"""Which fleet a data directory has, and making one."""

import asyncio
from collections.abc import Mapping

from corral.app.config import CellConfig
from corral.app.fleet import layout, links
from corral.app.fleet.layout import Fleet
from corral.base.errors import CorralError


def open_fleet(config: CellConfig, count: int, capacity: Mapping[str, int]) -> Fleet | None:
    """The fleet of a data directory, made or grown if `count` is not 0; None if it has none.

    Raises:
        CorralError: the directory belongs to something else, or has more machines, or a capacity is that of none.
    """
    found = layout.load(config)
    if found is None and not count:
        if capacity:
            raise CorralError(
                "cannot use --capacity: it is for the machines of --machines", "add --machines N, or leave it out"
            )
        return None
    if found is None:
        if config.agent_dir.exists():
            raise CorralError(
                f"cannot make a fleet in {config.data_dir}: it is that of a cell whose machine is this one",
                "choose another --data-dir",
            )
        subnet = layout.free_subnet(config.name, asyncio.run(links.taken()))
        found = Fleet(config, count, subnet, {})
    fleet = layout.grown(found, count, capacity)
    if config.host not in ("0.0.0.0", "::", fleet.gateway):
        raise CorralError(
            f"cannot serve the machines on {config.host}: they reach the server at {fleet.gateway}",
            f"leave --bind as it is, or say --bind {fleet.gateway}",
        )
    layout.save(fleet)
    return fleet
