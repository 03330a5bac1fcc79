"""`corral version`."""

import json

import aiohttp
import click

from corral import __version__
from corral.base.errors import CorralError
from corral.cli.session import connect, perform


@click.command("version", short_help="Print the versions of the client and the cell.")
@click.option("--client", "client_only", is_flag=True, help="Of the client only.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Output format.")
@click.option("--kubeconfig", metavar="FILE", help="Kubeconfig of the cell.")
@click.option("--data-dir", metavar="DIR", envvar="CORRAL_DATA_DIR", help="Data directory of a cell on this machine.")
def command(client_only: bool, output: str | None, kubeconfig: str | None, data_dir: str | None) -> None:
    """Print the version of this command and, if a cell can be reached, of its server."""

    async def body() -> int:
        versions = {"client": __version__}
        if not client_only:
            try:
                async with connect(kubeconfig, data_dir, None) as session:
                    versions["kubernetes"] = (await session.client.raw("/version"))["gitVersion"]
            except (CorralError, aiohttp.ClientError) as error:
                versions["server"] = f"none ({str(error).splitlines()[0]})"
        if output == "json":
            click.echo(json.dumps(versions, indent=4))
        else:
            click.echo("\n".join(f"{name}: {version}" for name, version in versions.items()))
        return 0

    perform(body())
