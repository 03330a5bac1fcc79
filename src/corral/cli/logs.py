"""`corral logs`: a program's output."""

import asyncio
import sys

import click

from corral.cli import targets, terminal
from corral.cli.session import Session, connected
from corral.kinds.resources import PODS


@click.command("logs", short_help="Print a program's output.")
@click.option("-f", "--follow", is_flag=True, help="Go on as output comes.")
@click.option("-c", "--container", default="", metavar="NAME", help="Container of the pod.")
@click.option("--tail", default=-1, metavar="N", help="The last N lines only.")
@click.option("--since", default="", metavar="SPAN", help="Only what is younger (10s, 5m, 2h).")
@click.option("-t", "--timestamps", is_flag=True, help="With the time before each line.")
@click.option("-p", "--previous", is_flag=True, help="Of the container before the last restart.")
@click.argument("name")
@connected
async def command(
    session: Session,
    follow: bool,
    container: str,
    tail: int,
    since: str,
    timestamps: bool,
    previous: bool,
    name: str,
) -> None:
    """Print the output of NAME: a program that `corral run` started, a pod, or kind/name."""
    pod = await targets.running_pod(session, name)
    query = {"container": container or targets.default_container(pod)}
    for flag, wanted in (("follow", follow), ("timestamps", timestamps), ("previous", previous)):
        if wanted:
            query[flag] = "true"
    if tail >= 0:
        query["tailLines"] = str(tail)
    if since:
        query["sinceSeconds"] = str(span(since))
    async with session.open(PODS.path(session.namespace, pod["metadata"]["name"], "log"), query) as response:
        async for chunk in response.content.iter_any():
            await asyncio.to_thread(terminal.write_all, sys.stdout.fileno(), chunk)


def span(text: str) -> int:
    """Seconds in a span such as `90`, `10s`, `5m`, `2h`, `1h30m`.

    Raises:
        click.BadParameter: it is none.
    """
    import re

    if text.isdigit():
        return int(text)
    if not re.fullmatch(r"(\d+[smhd])+", text):
        raise click.BadParameter(f"cannot read {text!r} as a span: write 10s, 5m, 2h or 1h30m", param_hint="--since")
    scale = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(int(count) * scale[unit] for count, unit in re.findall(r"(\d+)([smhd])", text))
