"""From the name that a person types to the objects that it means."""

import difflib
from dataclasses import dataclass

from corral.base.errors import CorralError
from corral.cli.session import Session
from corral.kinds.resources import DAEMON_SETS, DEPLOYMENTS, JOBS, PODS, REPLICA_SETS, STATEFUL_SETS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, Resource

KINDS: dict[str, Resource] = {
    "job": JOBS,
    "pod": PODS,
    "deployment": DEPLOYMENTS,
    "statefulset": STATEFUL_SETS,
    "daemonset": DAEMON_SETS,
    "replicaset": REPLICA_SETS,
}
"""In the order in which a bare name is looked up."""

_ALIASES = {
    **{resource.plural: kind for kind, resource in KINDS.items()},
    "po": "pod",
    "deploy": "deployment",
    "sts": "statefulset",
    "ds": "daemonset",
    "rs": "replicaset",
}


@dataclass(frozen=True, slots=True)
class Target:
    """An object that a person named."""

    resource: Resource
    obj: Obj

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.obj["metadata"]["namespace"])


async def find(session: Session, name: str) -> Target:
    """The object called `name`, or `kind/name`.

    Raises:
        CorralError: there is none; a close name is suggested.
    """
    word, slash, rest = name.partition("/")
    if slash:
        kind = _ALIASES.get(word.lower(), word.lower())
        if kind not in KINDS:
            raise CorralError(f"cannot look for {name}: no kind {word!r} that runs programs", f"use {', '.join(KINDS)}")
        kinds, name = [kind], rest
    else:
        kinds = list(KINDS)
    for kind in kinds:
        try:
            return Target(KINDS[kind], await session.client.get(KINDS[kind], name, session.namespace))
        except StatusError as error:
            if error.reason != "NotFound":
                raise
    known = [obj["metadata"]["name"] for kind in kinds for obj in await _items(session, KINDS[kind])]
    close = difflib.get_close_matches(name, known, 1)
    remedy = f"did you mean {close[0]}?" if close else "`corral ps -a` lists what there is"
    raise CorralError(f"cannot find {name} in namespace {session.namespace}", remedy)


async def _items(session: Session, resource: Resource) -> list[Obj]:
    return list((await session.client.list(resource, session.namespace))["items"])


async def pods(session: Session, target: Target) -> list[Obj]:
    """The pods behind a target, newest first."""
    if target.resource is PODS:
        return [target.obj]
    selector = target.obj["spec"].get("selector", {})
    terms = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        terms.append(_term(expression))
    listing = await session.client.list(PODS, target.namespace, label_selector=",".join(terms))
    return sorted(listing["items"], key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)


def _term(expression: Obj) -> str:
    """A matchExpressions entry in the selector grammar of the query string."""
    key, values = expression["key"], ",".join(expression.get("values") or ())
    forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key, "DoesNotExist": f"!{key}"}
    return str(forms[expression["operator"]])


async def running_pod(session: Session, name: str) -> Obj:
    """The pod to talk to when `name` is asked for: the newest that runs, else the newest.

    Raises:
        CorralError: there is none.
    """
    target = await find(session, name)
    found = await pods(session, target)
    if not found:
        raise CorralError(f"cannot find a pod of {name}: it has none now", f"see `corral why {name}`")
    running = [pod for pod in found if pod.get("status", {}).get("phase") == "Running"]
    return (running or found)[0]


def default_container(pod: Obj) -> str:
    """The container meant when none is named: the annotated one, else the first."""
    chosen = pod["metadata"].get("annotations", {}).get("kubectl.kubernetes.io/default-container")
    return str(chosen or pod["spec"]["containers"][0]["name"])
