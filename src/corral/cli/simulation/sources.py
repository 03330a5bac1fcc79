"""Where a scenario comes from: files, and the live cell where no file has machines."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import yaml

from corral.base.errors import CorralError
from corral.cli import manifests as files
from corral.cli.session import connect
from corral.client.client import Client
from corral.kinds.resources import NODES
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, Resource
from corral.scheduler.simulator import csvtable, inventory, manifests
from corral.scheduler.simulator.scenario import Scenario

_PAGE = 5000


@dataclass(frozen=True, slots=True)
class Sources:
    """Files, and the cell to read if they have no machines."""

    manifests: Sequence[str]
    machines: Sequence[Path]
    workloads: Sequence[Path]
    kubeconfig: str | None
    data_dir: str | None


def load(sources: Sources) -> Scenario:
    """The scenario of all `sources` together.

    Raises:
        CorralError: a file cannot be read or used, or the cell cannot be reached.
        StatusError: the cell refuses to tell.
    """
    given = files.read(sources.manifests) if sources.manifests else ()
    tables = [inventory.machines(csvtable.decode(_bytes(path), str(path)), str(path)) for path in sources.machines]
    tables += [inventory.workloads(csvtable.decode(_bytes(path), str(path)), str(path)) for path in sources.workloads]
    objects = [(one.obj, one.source) for one in given]
    if not any(table.machines for table in tables) and not any(one.obj["kind"] == NODES.kind for one in given):
        # Only what waits for the network is in an event loop: there, Ctrl-C would wait for the rest.
        objects = [*asyncio.run(_live(sources)), *objects]
    return sum(tables, manifests.read(objects))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorralError(f"cannot read {path}: {error.strerror or error}", "name a file that you may read") from error


async def _live(sources: Sources) -> list[tuple[Obj, str]]:
    async with connect(sources.kubeconfig, sources.data_dir, None) as session:
        return await read_cell(session.client, session.server)


async def read_cell(client: Client, name: str) -> list[tuple[Obj, str]]:
    """The objects of the cell that `client` talks to, each with `name` as its source.

    Raises:
        StatusError: they may not be read.
    """
    return [(obj, name) for resource in manifests.RESOURCES for obj in await _all(client, resource)]


async def _all(client: Client, resource: Resource) -> list[Obj]:
    found: list[Obj] = []
    token = ""
    while True:
        try:
            page = await client.list(resource, limit=_PAGE, continue_token=token)
        except StatusError as error:
            if error.code == 404:
                return found  # the cell does not serve this kind
            raise
        told = {"apiVersion": resource.api_version, "kind": resource.kind}
        found += [{**told, **item} for item in page["items"]]
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return found


def save(scenario: Scenario, path: Path) -> int:
    """Write `scenario` as a List, YAML if the name says so and JSON otherwise; how many objects it has.

    Raises:
        CorralError: the file cannot be written.
    """
    listing = manifests.write(scenario)
    if path.suffix in (".yaml", ".yml"):
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        data = yaml.dump(listing, Dumper=dumper, sort_keys=False, default_flow_style=False).encode()
    else:
        data = orjson.dumps(listing, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    try:
        if str(path) == "-":
            os.write(1, data)
        else:
            path.write_bytes(data)
    except OSError as error:
        raise CorralError(
            f"cannot write {path}: {error.strerror or error}", "name a file that you may write"
        ) from error
    return len(listing["items"])
