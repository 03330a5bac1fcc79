"""`corral machine`: the machines of a cell, and taking one out of service."""

from datetime import UTC, datetime

import click

from corral.base.clock import parse_rfc3339
from corral.base.errors import CorralError
from corral.cli import terminal
from corral.cli.drain import Drain, choose
from corral.cli.ps import status_word
from corral.cli.removal import remove_machine
from corral.cli.session import Session, connected
from corral.cli.status import HEADER, machine, row
from corral.kinds.conditions import is_true, node_troubles
from corral.kinds.podnetwork import assigned
from corral.kinds.podspec import is_terminal
from corral.kinds.repairs import REPAIRS, read
from corral.kinds.resources import NODES, PODS
from corral.kinds.status import StatusError
from corral.kinds.tables import human_duration
from corral.kinds.types import Obj, key_of

_LABELS_HIDDEN = ("beta.kubernetes.io/",)


@click.group("machine", short_help="List machines, and take one out of service and back.")
def command() -> None:
    """The machines of a cell; the API calls a machine a Node."""


@command.command("ls")
@click.option("-o", "--output", type=click.Choice(["wide", "json", "yaml", "name"]), help="Output format.")
@connected
async def ls(session: Session, output: str | None) -> None:
    """List the machines."""
    nodes = (await session.client.list(NODES))["items"]
    if output in ("json", "yaml", "name"):
        terminal.emit(
            {"apiVersion": "v1", "kind": "List", "items": [{"kind": "Node", **node} for node in nodes]}, output
        )
        return
    pods = (await session.client.list(PODS))["items"]
    wide = output == "wide"
    rows = [[*row(machine(node, pods)), *(_facts(node) if wide else ())] for node in nodes]
    click.echo(terminal.columns([*HEADER, *(["SYSTEM", "KERNEL", "RUNTIME"] if wide else ())], rows))


def _facts(node: Obj) -> list[str]:
    info = node.get("status", {}).get("nodeInfo", {})
    return [info.get("osImage", ""), info.get("kernelVersion", ""), info.get("containerRuntimeVersion", "")]


@command.command("show")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Output format.")
@click.argument("name", metavar="NAME")
@connected
async def show(session: Session, output: str | None, name: str) -> None:
    """Show a machine: its state, what it has, and what runs on it."""
    node = await _find(session, name)
    if output:
        terminal.emit({"kind": "Node", "apiVersion": "v1", **node}, output)
        return
    pods = await _pods_on(session, name)
    click.echo(terminal.columns(HEADER, [row(machine(node, pods))]))
    for line in [*await _in_repair(session, name), *_words(node)]:
        click.echo(line)
    now = datetime.now(UTC)
    rows = [[str(key_of(pod)), status_word(pod), _age(pod, now)] for pod in pods if not is_terminal(pod)]
    if rows:
        click.echo(terminal.columns(["POD", "STATUS", "AGE"], rows))


async def _in_repair(session: Session, name: str) -> list[str]:
    """What is done about a machine in trouble."""
    repairs = (await session.client.list(REPAIRS, field_selector=f"spec.nodeName={name}"))["items"]
    return [
        f"repair  {one.name}: {one.status.phase}: {one.status.message}" for one in map(read, repairs) if one.matters
    ]


def _words(node: Obj) -> list[str]:
    """Conditions that say more than that all is well, its pods' addresses, taints and labels."""
    said = [
        f"{condition['type']}={condition['status']}: {condition.get('message', '')}".rstrip(": ")
        for condition in node_troubles(node)
    ]
    said += [f"podCIDR {network}" for network in assigned(node)]
    for taint in (node.get("spec") or {}).get("taints") or ():
        value = f"={taint['value']}" if taint.get("value") else ""
        said.append(f"taint   {taint['key']}{value}:{taint['effect']}")
    labels = (node["metadata"].get("labels") or {}).items()
    return said + [f"label   {key}={value}" for key, value in sorted(labels) if not key.startswith(_LABELS_HIDDEN)]


def _age(obj: Obj, now: datetime) -> str:
    return human_duration((now - parse_rfc3339(obj["metadata"]["creationTimestamp"])).total_seconds())


@command.command("cordon")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@connected
async def cordon(session: Session, names: tuple[str, ...]) -> None:
    """Let no new pods come to the machines; what runs there runs on."""
    for name in names:
        await _set_cordoned(session, name, True)
        click.echo(name)


@command.command("uncordon")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@connected
async def uncordon(session: Session, names: tuple[str, ...]) -> None:
    """Let pods come to the machines again: undoes `cordon` and `drain`."""
    for name in names:
        await _set_cordoned(session, name, False)
        click.echo(name)


@command.command("drain")
@click.option("--grace-period", type=int, metavar="SECONDS", help="Instead of what each pod says.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Give up after this long; by default never.")
@click.option("--force", is_flag=True, help="Also pods that nothing starts again elsewhere.")
@click.option("--delete-emptydir-data", "delete_local", is_flag=True, help="Also pods whose emptyDir data is lost.")
@click.option("--dry-run", is_flag=True, help="Say what would leave, and do nothing.")
@click.argument("name", metavar="NAME")
@connected
async def drain(
    session: Session,
    name: str,
    dry_run: bool,
    grace_period: int | None,
    timeout: float | None,
    force: bool,
    delete_local: bool,
) -> None:
    """Take a machine out of service: cordon it and evict its pods, as their disruption budgets allow.

    Daemons stay. Interrupting leaves the machine cordoned; `corral machine uncordon` brings it back.
    """
    await _find(session, name)
    choice = choose(await _pods_on(session, name), force=force, delete_local=delete_local)
    if choice.refused:
        listed = "; ".join(choice.refused[:5])
        raise CorralError(f"cannot drain {name}: {listed}", "let them go with the option named, or move them first")
    if dry_run:
        for pod in choice.leave:
            click.echo(str(key_of(pod)))
        return
    await _set_cordoned(session, name, True)
    terminal.note(f"{name} takes no new pods (undo: corral machine uncordon {name})")
    terminal.note(f"{len(choice.leave)} pods leave, {len(choice.stay)} daemons stay")
    await Drain(session.client, terminal.note, grace=grace_period).run(choice.leave, timeout)
    click.echo(name)


@command.command("remove")
@click.option("--force", is_flag=True, help="Also a machine that is alive: it stops its pods and stays away.")
@click.argument("name", metavar="NAME")
@connected
async def remove(session: Session, force: bool, name: str) -> None:
    """Take a machine out of the cell for good; its pods are made anew elsewhere.

    Its certificate does not count any more; with a new line (corral token create) it, or another one under its name,
    can join again. Empty it first: corral machine drain.
    """
    node = await _find(session, name)
    if is_true(node, "Ready") and not force:
        raise CorralError(
            f"cannot remove {name}: it is alive, or was less than a minute ago",
            f"empty it (corral machine drain {name}), end its agent (`corral down` there), and wait; or use --force",
        )
    await remove_machine(session.client, node, terminal.note)
    click.echo(name)


async def _find(session: Session, name: str) -> Obj:
    try:
        return await session.client.get(NODES, name)
    except StatusError as error:
        if error.reason != "NotFound":
            raise
        names = [node["metadata"]["name"] for node in (await session.client.list(NODES))["items"]]
        listed = ", ".join(names[:10]) or "none"
        raise CorralError(f"cannot find the machine {name}", f"the cell's machines: {listed}") from error


async def _pods_on(session: Session, name: str) -> list[Obj]:
    found: list[Obj] = (await session.client.list(PODS, field_selector=f"spec.nodeName={name}"))["items"]
    return found


async def _set_cordoned(session: Session, name: str, cordoned: bool) -> None:
    await _find(session, name)
    await session.client.patch(NODES, name, {"spec": {"unschedulable": cordoned or None}})
