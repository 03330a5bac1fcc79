"""`corral stop`: end programs."""

import click

from corral.base.errors import CorralError
from corral.cli import targets, terminal
from corral.cli.session import Session, connected
from corral.kinds.resources import DAEMON_SETS, DEPLOYMENTS, JOBS, PODS, REPLICA_SETS, STATEFUL_SETS
from corral.kinds.types import Obj

_SCALED = {DEPLOYMENTS, STATEFUL_SETS, REPLICA_SETS}


@click.command("stop", short_help="Stop programs.")
@click.option("-t", "--time", "grace", type=int, metavar="SECONDS", help="Grace before SIGKILL.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@connected
async def command(session: Session, grace: int | None, names: tuple[str, ...]) -> int:
    """Stop each NAME: a job or pod is deleted, a deployment is scaled to 0 (`kubectl scale` brings it back).

    Returns when the containers have ended.
    """
    code = 0
    for name in names:
        try:
            await _stop(session, name, grace)
            click.echo(name)
        except CorralError as error:
            terminal.error(error)
            code = 1
    return code


async def _stop(session: Session, name: str, grace: int | None) -> None:
    target = await targets.find(session, name)
    if target.resource is DAEMON_SETS:
        raise CorralError(
            f"cannot stop {name}: a daemonset runs wherever it fits", f"delete it: kubectl delete daemonset {name}"
        )
    pods = await targets.pods(session, target)
    if target.resource in _SCALED:
        await session.client.patch(target.resource, target.name, {"spec": {"replicas": 0}}, target.namespace)
    elif target.resource is JOBS:
        # The pods first: a Job's own deletion leaves them their full grace period.
        await _delete_pods(session, pods, grace, suspend=target)
        await session.client.delete(JOBS, target.name, target.namespace, propagation="Background")
    else:
        await session.client.delete(PODS, target.name, target.namespace, grace=grace)
    await _gone(session, pods)


async def _delete_pods(session: Session, pods: list[Obj], grace: int | None, suspend: targets.Target) -> None:
    """Delete a Job's pods with a grace of the person's choice, and keep the Job from making new ones meanwhile."""
    if grace is None:
        return
    await session.client.patch(JOBS, suspend.name, {"spec": {"suspend": True}}, suspend.namespace)
    for pod in pods:
        await session.client.delete(PODS, pod["metadata"]["name"], suspend.namespace, grace=grace)


async def _gone(session: Session, pods: list[Obj]) -> None:
    """Return when none of `pods` is there any more."""
    waiting = {pod["metadata"]["uid"] for pod in pods}
    while waiting:
        listing = await session.client.list(PODS, session.namespace)
        waiting &= {pod["metadata"]["uid"] for pod in listing["items"]}
        revision = listing["metadata"]["resourceVersion"]
        if not waiting:
            return
        async with session.client.watch(PODS, session.namespace, resource_version=revision, timeout=30) as events:
            async for event in events:
                if event.type == "DELETED":
                    waiting.discard(event.object["metadata"]["uid"])
                if event.type == "ERROR" or not waiting:
                    break
