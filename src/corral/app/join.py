"""`corral join`: make this machine one of a cell's."""

import asyncio
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource

from corral.agent.preflight import checks
from corral.agent.trials import trials
from corral.app import detach as detaching
from corral.app import options
from corral.app.clock import process_clock
from corral.app.config import CellConfig, Engine, machine_address, prepare_data_dir
from corral.app.dismissal import Removed, leave
from corral.app.membership import AGENT_PORT, Identity, Membership, enrol
from corral.app.ports import agent_port
from corral.app.process import AlreadyRuns, running_pid, sole_owner
from corral.app.up import Checklist, serve, tell
from corral.base.checks import Check
from corral.base.errors import CorralError
from corral.cli import terminal
from corral.kinds.types import Obj

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@click.command("join", short_help="Make this machine one of a cell's.")
@options.data_dir
@click.option(
    "--ssh",
    "destination",
    metavar="[USER@]HOST",
    help="Let that machine join instead of this one; without SERVER by your kubeconfig.",
)
@click.option("--token", metavar="TOKEN", help="From `corral token create` on the server; - reads it from stdin.")
@click.option("--ca-hash", "pin", metavar="HASH", help="The hash of the cell's authority: sha256:...")
@click.option("--name", default="", metavar="NAME", help="Name of this machine; its host name otherwise.")
@click.option("--address", default="", metavar="IP", help="By which servers reach it; that of the default route.")
@click.option(
    "--port",
    default=AGENT_PORT,
    show_default=True,
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Where servers reach its agent; 0 is any free port.",
)
@click.option("--labels", default="", metavar="K=V,...", help="Labels of the machine.")
@click.option("--taints", default="", metavar="K=V:EFFECT,...", help="Taints of the machine.")
@click.option("--capacity", default="", metavar="R=N,...", help="What pods may have, for example cpu=4,memory=8Gi.")
@options.engine
@click.option("-d", "--detach", is_flag=True, help="Return when the machine is ready; it runs on in the background.")
@click.argument("server", required=False, metavar="[https://SERVER:PORT]")
def command(
    data_dir: Path,
    destination: str | None,
    token: str | None,
    pin: str | None,
    name: str,
    address: str,
    port: int,
    labels: str,
    taints: str,
    capacity: str,
    engine: Engine,
    detach: bool,
    server: str | None,
) -> None:
    """Join the cell of SERVER and run pods for it.

    The line with server, token and hash comes from `corral token create`. A machine that has joined needs none of them
    again: plain `corral join` starts its agent.
    """
    if token == "-":
        token = sys.stdin.readline().strip()
    if destination is not None:
        raise SystemExit(_join_over_ssh(destination, server, token, pin))
    config = CellConfig(data_dir.absolute(), node_name=name, engine=engine)
    try:
        prepare_data_dir(config)
        pid = running_pid(config)
        if pid:
            raise AlreadyRuns(config, pid)
        membership = Membership.load(config.data_dir)
        if server is not None:
            wanted = Membership(
                server.rstrip("/"),
                config.machine,
                _labels(labels),
                _taints(taints),
                options.amounts(capacity),
                address,
                port,
            )
            membership = _enrolled(config, wanted, token, pin, membership)
        elif membership is None:
            raise CorralError(
                "cannot start: this machine has joined no cell", "make the line to join with: corral token create"
            )
        again = ["join", "--data-dir", str(config.data_dir), "--engine", engine]
        code = detaching.detached(config, again) if detach else _serve(config, membership, again)
    except CorralError as error:
        terminal.error(error)
        code = 1
    raise SystemExit(code)


_FOR_SSH = ("data_dir", "name", "address", "port", "labels", "taints", "capacity", "engine")


def _join_over_ssh(destination: str, server: str | None, token: str | None, pin: str | None) -> int:
    from corral.app.remotejoin import Invitation, join_over_ssh

    context = click.get_current_context()
    chosen = [name for name in _FOR_SSH if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    words = [word for name in chosen for word in (f"--{name.replace('_', '-')}", str(context.params[name]))]
    try:
        if server is None:
            return join_over_ssh(destination, None, words)
        if not token or not pin:
            raise CorralError("cannot join without --token and --ca-hash", "give the whole line, or none of it")
        return join_over_ssh(destination, Invitation(server.rstrip("/"), token, pin), words)
    except CorralError as error:
        terminal.error(error)
        return 1


def _serve(config: CellConfig, membership: Membership, again: list[str]) -> int:
    """Run the machine; an agent that is to be restarted makes way for `corral` with the arguments `again`.

    Raises:
        CorralError: it cannot be started, or a part has failed.
        Removed: the cell has removed it; its containers are stopped.
    """
    from corral.app.machine import RestartAsked, running_machine

    if membership.removed:
        raise Removed(membership)
    try:
        return serve(config, partial(running_machine, config, membership), ready="machine ready")
    except Removed:
        asyncio.run(leave(config, membership))
        raise
    except RestartAsked as asked:
        terminal.note(asked.message)
        # The same process goes on with a fresh program, so that whoever supervises it sees no end.
        os.execv(sys.executable, [sys.executable, "-m", "corral", *again])


def _enrolled(
    config: CellConfig, wanted: Membership, token: str | None, pin: str | None, present: Membership | None
) -> Membership:
    """Get this machine's first certificate, unless it has one of this very cell and name.

    Raises:
        CorralError: what is missing or refused, and what to do.
    """
    if not wanted.server.startswith("https://"):
        raise CorralError(f"cannot join {wanted.server}: it must be https://SERVER:PORT", "copy the line whole")
    if present is not None and _is_member(config, wanted, present, pin):
        wanted = replace(wanted, servers=present.servers)
        wanted.save(config.data_dir)
        return wanted
    if not token or not pin:
        raise CorralError(
            "cannot join without --token and --ca-hash sha256:...", "make the whole line: corral token create"
        )
    # Wherever a cell keeps its state, its authority's key is here.
    if (config.data_dir / "pki" / "ca.key").exists():
        raise CorralError(
            f"cannot join with {config.data_dir}: a cell of its own lives there", "choose another --data-dir"
        )
    report = Checklist()
    # What is all right here is said when the agent starts.
    port = agent_port(wanted.address or machine_address(), wanted.port)
    here = [check for check in [*checks(), *trials(), port] if not check.ok]
    for check in here:
        tell(report, check, 0.0)
    began = time.monotonic()

    def heard(check: Check) -> None:
        tell(report, check, time.monotonic() - began)

    clock = process_clock(config.data_dir)
    with sole_owner(config):
        asyncio.run(enrol(config.data_dir, wanted, token, pin, clock, here=here, tell=heard))
    return wanted


def _is_member(config: CellConfig, wanted: Membership, present: Membership, pin: str | None) -> bool:
    """Whether this machine has what the line would give it: who pastes it again only starts the agent."""
    identity = Identity(config.data_dir / "pki", present, process_clock(config.data_dir))
    same = (present.server, present.name) == (wanted.server, wanted.name) and not present.removed
    return same and identity.introduced and pin in (None, identity.fingerprint)


def _labels(text: str) -> dict[str, str]:
    return options.pairs(text, "--labels")


def _taints(text: str) -> list[Obj]:
    found: list[Obj] = []
    for part in filter(None, text.split(",")):
        head, colon, effect = part.rpartition(":")
        key, _, value = head.partition("=")
        if not colon or not key or effect not in _EFFECTS:
            raise CorralError(
                f"cannot read --taints {part!r}", f"write key=value:EFFECT, EFFECT being one of {', '.join(_EFFECTS)}"
            )
        found.append({"key": key, "effect": effect, **({"value": value} if value else {})})
    return found
