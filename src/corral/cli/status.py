"""`corral status`: the cell at a glance."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from corral.base.clock import parse_rfc3339
from corral.base.quantities import milli, whole
from corral.cli import terminal
from corral.cli.session import Session, connected
from corral.kinds.conditions import is_true
from corral.kinds.podspec import is_terminal, pod_requests
from corral.kinds.repairs import QUARANTINE_TAINT, QUARANTINED, REPAIR_TAINT
from corral.kinds.resources import LEASES, NODES, PODS
from corral.kinds.servers import ALIVE, NAMESPACE, leader, peers
from corral.kinds.tables import human_duration
from corral.kinds.taints import read_taints
from corral.kinds.types import Obj

_REPAIRS = {QUARANTINE_TAINT: "Quarantined", REPAIR_TAINT: "InRepair"}
HEADER = ("MACHINE", "STATUS", "CPU", "MEMORY", "PODS", "AGE", "ADDRESS")


@click.command("status", short_help="Show the cell: its servers, machines and load.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="Output format.")
@connected
async def command(session: Session, output: str | None) -> int:
    """Show the cell; the exit code is 0 if its server answers and every machine is ready."""
    version = await session.client.raw("/version")
    nodes = (await session.client.list(NODES))["items"]
    pods = (await session.client.list(PODS))["items"]
    machines = [machine(node, pods) for node in nodes]
    phases = Counter(str(pod.get("status", {}).get("phase", "Unknown")) for pod in pods)
    servers = _servers((await session.client.list(LEASES, NAMESPACE))["items"], datetime.now(UTC))
    ready = all(entry["ready"] for entry in machines)
    if output == "json":
        data = {
            "server": session.server,
            "version": version["gitVersion"],
            "servers": servers,
            "machines": machines,
            "pods": dict(phases),
        }
        click.echo(json.dumps(data, indent=4))
        return 0 if ready else 1
    click.echo(f"cell      {session.server} (Kubernetes API {version['gitVersion']})")
    for server in servers:
        click.echo(f"server    {server['url']}{_words(server)}")
    click.echo(f"pods      {', '.join(f'{count} {phase}' for phase, count in sorted(phases.items())) or 'none'}")
    click.echo(terminal.columns(HEADER, [row(entry) for entry in machines]))
    return 0 if ready else 1


def _servers(leases: Sequence[Obj], now: datetime) -> list[dict[str, Any]]:
    """The servers that share the cell's store, if it can be shared; `silent` in seconds, 0 for who was heard of."""
    leads = leader(leases)
    return [
        {
            "url": peer.url,
            "leads": peer.url == leads,
            "silent": int(silent.total_seconds()) if (silent := peer.silent(now)) > ALIVE else 0,
        }
        for peer in peers(leases)
    ]


def _words(server: Mapping[str, Any]) -> str:
    silent = f", not heard of for {human_duration(server['silent'])}" if server["silent"] else ""
    return f"{', leads' if server['leads'] else ''}{silent}"


def machine(node: Obj, pods: list[Obj]) -> dict[str, Any]:
    """A machine's readiness and how much of it is reserved; CPU in millicores, memory in bytes, age in seconds."""
    name = node["metadata"]["name"]
    here = [pod for pod in pods if pod["spec"].get("nodeName") == name and not is_terminal(pod)]
    requests = [pod_requests(pod) for pod in here]
    status = node.get("status", {})
    allocatable = status.get("allocatable", {})
    taints = {taint.key for taint in read_taints(node)}
    born = parse_rfc3339(node["metadata"]["creationTimestamp"])
    return {
        "name": name,
        "ready": is_true(node, "Ready"),
        "cordoned": bool((node.get("spec") or {}).get("unschedulable")),
        "problems": [found["type"] for found in status.get("conditions", ()) if _is_trouble(found)],
        "repair": next((word for key, word in _REPAIRS.items() if key in taints), ""),
        "cpu": {"reserved": sum(r.get("cpu", 0) for r in requests), "allocatable": milli(allocatable.get("cpu", 0))},
        "memory": {
            "reserved": sum(r.get("memory", 0) for r in requests),
            "allocatable": whole(allocatable.get("memory", 0)),
        },
        "pods": {"running": len(here), "allocatable": whole(allocatable.get("pods", 0))},
        "age": int((datetime.now(UTC) - born).total_seconds()),
        "address": next((a["address"] for a in status.get("addresses", ()) if a["type"] == "InternalIP"), ""),
    }


def _is_trouble(condition: Obj) -> bool:
    return condition["status"] == "True" and condition["type"] not in ("Ready", QUARANTINED)


def row(entry: dict[str, Any]) -> list[str]:
    """What `machine` found, under `HEADER`."""
    cpu, memory, pods = entry["cpu"], entry["memory"], entry["pods"]
    states = ["Ready" if entry["ready"] else "NotReady", "Cordoned" if entry["cordoned"] else "", entry["repair"]]
    states += entry["problems"]
    return [
        entry["name"],
        ",".join(filter(None, states)),
        f"{cpu['reserved'] / 1000:.2f}/{cpu['allocatable'] / 1000:g}",
        f"{memory['reserved'] / 2**30:.1f}/{memory['allocatable'] / 2**30:.1f} GiB",
        f"{pods['running']}/{pods['allocatable']}",
        human_duration(entry["age"]),
        entry["address"],
    ]
