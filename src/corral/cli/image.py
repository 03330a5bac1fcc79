"""`corral image`: the images of a cell's machines."""

import tempfile
import time
from pathlib import Path
from typing import Any

import click

from corral.base.errors import CorralError
from corral.cli import packing, terminal
from corral.cli.session import Session, connected
from corral.kinds.resources import NODES


@click.group("image", short_help="Load and list the images of a cell's machines.")
def command() -> None:
    """Load and list the images of a cell's machines."""


@command.command("load")
@click.option("--as", "reference", default="", metavar="REF", help="The name that pods will use; else the archive's.")
@click.option("--machine", default="", metavar="NAME", help="This machine only; else every machine.")
@click.argument("path", type=click.Path(exists=True, path_type=Path), metavar="FILE")
@connected
async def load(session: Session, reference: str, machine: str, path: Path) -> None:
    """Load FILE: an OCI archive, a docker archive, or an OCI layout directory."""
    nodes = [machine] if machine else [node["metadata"]["name"] for node in (await session.client.list(NODES))["items"]]
    if not nodes:
        raise CorralError("cannot load an image: the cell has no machine", "start one without --no-agent")
    with tempfile.TemporaryDirectory(prefix="corral-") as directory:
        # A layout directory travels as an archive of itself.
        archive = packing.pack(path, Path(directory) / "layout.tar.gz").path if path.is_dir() else path
        for node in nodes:
            began = time.monotonic()
            image = await _send(session, node, archive, reference)
            terminal.note(f"loaded on {node} in {terminal.duration(time.monotonic() - began)}")
            click.echo(", ".join(image["references"]) or image["id"])


async def _send(session: Session, node: str, archive: Path, reference: str) -> dict[str, Any]:
    query = {"reference": reference} if reference else {}
    where = f"/apis/corral.dev/v1/nodes/{node}/images"
    with archive.open("rb") as file:
        async with session.open(where, query, method="POST", data=file) as response:
            loaded: dict[str, Any] = await response.json()
            return loaded


@command.command("ls")
@connected
async def ls(session: Session) -> None:
    """List the images of every machine."""
    rows = []
    for node in (await session.client.list(NODES))["items"]:
        for image in node.get("status", {}).get("images") or ():
            rows += [
                [name, terminal.size(image.get("sizeBytes", 0)), node["metadata"]["name"]] for name in image["names"]
            ]
    click.echo(terminal.columns(["IMAGE", "SIZE", "MACHINE"], rows))
