"""Who must leave a machine in repair, and where the work went. Pure."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

import msgspec

from corral.kinds.health import yields
from corral.kinds.owners import controller_of
from corral.kinds.podspec import is_terminal
from corral.kinds.repairs import Move
from corral.kinds.storage import claims_of
from corral.kinds.types import Key, Obj

_MIRROR = "kubernetes.io/config.mirror"
_MOST = 200
"""Pods of a machine that are followed one by one (Kubernetes supports 110 on one)."""


def leaving(pods: Sequence[Obj], pinned: Set[Key], *, silent: bool) -> list[Obj]:
    """Of a machine's pods, those that a repair moves: what something starts again elsewhere, and can.

    Args:
        pinned: claims whose data is on this machine; their pods would only wait elsewhere.
        silent: the machine is; then the taint `unreachable` moves pods, those that do not bear it for ever.
    """
    return [
        pod
        for pod in pods
        if not is_terminal(pod)
        and _is_movable(pod)
        and not any(Key(pod["metadata"]["namespace"], name) in pinned for name, own in claims_of(pod) if not own)
        and (not silent or yields(pod))
    ]


def is_leaving(pod: Obj) -> bool:
    """Whether it was asked to end already."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def _is_movable(pod: Obj) -> bool:
    owner = controller_of(pod)
    return owner is not None and owner["kind"] != "DaemonSet" and not _is_mirror(pod)


def _is_mirror(pod: Obj) -> bool:
    return _MIRROR in (pod["metadata"].get("annotations") or {})


def found(pods: Sequence[Obj]) -> tuple[Move, ...]:
    """The pods of a machine whose trouble was just seen; daemons, which belong to it, are left out."""
    made = []
    for pod in pods:
        owner = controller_of(pod)
        if is_terminal(pod) or _is_mirror(pod) or (owner or {}).get("kind") == "DaemonSet":
            continue
        metadata = pod["metadata"]
        named = (f"{owner['kind']}/{owner['name']}", owner["uid"]) if owner is not None else ("", "")
        made.append(Move(metadata["namespace"], metadata["name"], metadata["uid"], *named))
    return tuple(sorted(made, key=lambda move: (move.namespace, move.pod))[:_MOST])


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Pods around a repair: `here` on its machine, `managed` by the uid of their controller."""

    machine: str
    opened: str
    """When the repair was, as the API writes times."""
    here: Sequence[Obj]
    managed: Callable[[str], Sequence[Obj]]


def followed(moves: tuple[Move, ...], where: Whereabouts, now: str) -> tuple[Move, ...]:
    """The same pods, with who has left by now and where its work runs."""
    stay = (pod for pod in where.here if not is_terminal(pod) and not is_leaving(pod))
    staying = {pod["metadata"]["uid"] for pod in stay}
    known = {move.uid for move in moves} | {(move.namespace, move.to_pod) for move in moves if move.to_pod}
    made = []
    for move in moves:
        if not move.left and move.uid not in staying:
            move = msgspec.structs.replace(move, left=now)
        if move.left and not move.to_machine and move.owner_uid:
            heir = _heir(move, where, known)
            if heir is not None:
                known |= {heir["metadata"]["uid"], (move.namespace, heir["metadata"]["name"])}
                move = msgspec.structs.replace(
                    move, to_machine=heir["spec"]["nodeName"], to_pod=heir["metadata"]["name"]
                )
        made.append(move)
    return tuple(made)


def _heir(move: Move, where: Whereabouts, known: Set[object]) -> Obj | None:
    """The pod that does the work of one that has left: of its controller, elsewhere, younger than the trouble, and
    nobody else's heir; one of the same name (a StatefulSet's) first, then the oldest."""
    candidates = [
        pod
        for pod in where.managed(move.owner_uid)
        if pod["spec"].get("nodeName") not in (None, "", where.machine)
        and not is_leaving(pod)
        and (pod["metadata"].get("creationTimestamp") or "") >= where.opened
        and pod["metadata"]["uid"] not in known
        and (move.namespace, pod["metadata"]["name"]) not in known
    ]
    return min(
        candidates,
        key=lambda pod: (pod["metadata"]["name"] != move.pod, pod["metadata"]["creationTimestamp"]),
        default=None,
    )
