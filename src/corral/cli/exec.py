"""`corral exec`: another command in a running container."""

import click

from corral.cli import attach, targets
from corral.cli.session import Session, connected


@click.command(
    "exec", context_settings={"allow_interspersed_args": False}, short_help="Run a command beside a running program."
)
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="With a terminal.")
@click.option("-c", "--container", default="", metavar="NAME", help="Container of the pod.")
@click.argument("name")
@click.argument("argv", nargs=-1, required=True, metavar="[--] COMMAND ARGS...")
@connected
async def command(
    session: Session, interactive: bool, tty: bool, container: str, name: str, argv: tuple[str, ...]
) -> int:
    """Run COMMAND in the container of NAME; the exit code is the command's."""
    pod = await targets.running_pod(session, name)
    if argv and argv[0] == "--":
        argv = argv[1:]
    return await attach.execute(
        session,
        pod["metadata"]["name"],
        container or targets.default_container(pod),
        argv,
        stdin=interactive,
        tty=tty,
    )
