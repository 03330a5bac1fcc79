"""`corral ps`: what runs, as docker's ps shows it."""

import shlex
from datetime import UTC, datetime

import click

from corral.base.clock import parse_rfc3339
from corral.cli import terminal
from corral.cli.session import Session, connected
from corral.kinds.resources import PODS
from corral.kinds.tables import human_duration
from corral.kinds.types import Obj


@click.command("ps", short_help="List what runs.")
@click.option("-a", "--all", "everything", is_flag=True, help="Also what has ended.")
@click.option("-A", "--all-namespaces", is_flag=True, help="In all namespaces.")
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
@click.option("-o", "--output", type=click.Choice(["wide", "json", "yaml", "name"]), help="Output format.")
@connected
async def command(session: Session, everything: bool, all_namespaces: bool, quiet: bool, output: str | None) -> None:
    """List the programs that run (with -a, also those that have ended)."""
    listing = await session.client.list(PODS, "" if all_namespaces else session.namespace)
    pods = [pod for pod in listing["items"] if everything or not _ended(pod)]
    pods.sort(key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)
    if output in ("json", "yaml", "name"):
        terminal.emit({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Pod", **pod} for pod in pods]}, output)
        return
    if quiet:
        for pod in pods:
            click.echo(program_name(pod))
        return
    now = datetime.now(UTC)
    header = ["NAME", "IMAGE", "COMMAND", "STATUS", "RESTARTS", "AGE", "MACHINE"]
    header += ["POD", "IP"] if output == "wide" else []
    header = ["NAMESPACE", *header] if all_namespaces else header
    rows = []
    for pod in pods:
        row = summary(pod, now)
        row += [pod["metadata"]["name"], pod.get("status", {}).get("podIP", "")] if output == "wide" else []
        rows.append([pod["metadata"]["namespace"], *row] if all_namespaces else row)
    click.echo(terminal.columns(header, rows))


def _ended(pod: Obj) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def program_name(pod: Obj) -> str:
    """What the person who ran it calls it: its Job's name, or the pod's own."""
    labels = pod["metadata"].get("labels") or {}
    return str(labels.get("batch.kubernetes.io/job-name") or pod["metadata"]["name"])


def status_word(pod: Obj) -> str:
    """A pod's state in a word or two, as kubectl's STATUS."""
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for container in status.get("containerStatuses") or ():
        state = container.get("state", {})
        if "waiting" in state:
            return str(state["waiting"].get("reason") or "Waiting")
        if "terminated" in state:
            ended = state["terminated"]
            code = ended.get("exitCode", 0)
            return str(ended.get("reason") or "Ended") + (f" ({code})" if code else "")
    return str(status.get("reason") or status.get("phase") or "Unknown")


def summary(pod: Obj, now: datetime) -> list[str]:
    """One row of the table."""
    container = pod["spec"]["containers"][0]
    argv = [
        str(part).replace("$$", "$") for part in [*(container.get("command") or ()), *(container.get("args") or ())]
    ]
    words = shlex.join(argv) or "-"
    restarts = sum(status.get("restartCount", 0) for status in pod.get("status", {}).get("containerStatuses") or ())
    born = parse_rfc3339(pod["metadata"]["creationTimestamp"])
    return [
        program_name(pod),
        container["image"],
        words if len(words) <= 40 else words[:37] + "...",
        status_word(pod),
        str(restarts),
        human_duration((now - born).total_seconds()),
        pod["spec"].get("nodeName") or "-",
    ]
