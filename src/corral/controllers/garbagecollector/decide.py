"""What is to be done about one object. Pure.

The cases are those of Kubernetes' garbage collector (`attemptToDeleteItem`, `processDeletingDependentsItem`,
`orphanDependents`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from corral.controllers.garbagecollector.graph import FOREGROUND, ORPHAN, Graph, Node, Owner, matches

Policy: TypeAlias = Literal["Background", "Foreground", "Orphan"]


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing to do."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The graph does not know these owners: does the API?"""

    owners: tuple[Owner, ...]


@dataclass(frozen=True, slots=True)
class Disown:
    """Another owner holds the object; take these owners off it."""

    owners: frozenset[str]


@dataclass(frozen=True, slots=True)
class Delete:
    """No owner holds the object."""

    policy: Policy
    unblock: frozenset[str] = frozenset()
    """Owners that must no longer wait for the object, because it waits for them (a circle)."""


@dataclass(frozen=True, slots=True)
class LookAt:
    """The object waits for these dependents."""

    dependents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Nothing holds the object back any more: take the finalizer off."""

    finalizer: str


@dataclass(frozen=True, slots=True)
class Orphan:
    """Take the object off its dependents' owners, then the finalizer off the object."""

    dependents: tuple[Node, ...]


Decision: TypeAlias = Keep | Ask | Disown | Delete | LookAt | Release | Orphan


def decide(graph: Graph, node: Node, known: Mapping[str, bool]) -> Decision:
    """Decide about `node`; `known` says of owners outside the graph whether the API has them."""
    if node.lets_dependents_go:
        return Orphan(tuple(graph.dependents(node.uid)))
    if node.waits_for_dependents:
        return _waiting(graph, node)
    if node.deleting or not node.owners:
        return Keep()
    return _by_owners(graph, node, known)


def _waiting(graph: Graph, node: Node) -> Decision:
    blocking = [
        dependent
        for dependent in graph.dependents(node.uid)
        if any(owner.uid == node.uid and owner.blocks for owner in dependent.owners)
    ]
    if not blocking:
        return Release(FOREGROUND)
    return LookAt(tuple(dependent.uid for dependent in blocking if not dependent.waits_for_dependents))


def _by_owners(graph: Graph, node: Node, known: Mapping[str, bool]) -> Decision:
    gone: set[str] = set()
    waiting: set[str] = set()
    unknown: list[Owner] = []
    held = False
    for owner in node.owners:
        found = graph.nodes.get(owner.uid)
        if found is not None and matches(found, owner, node):
            if found.waits_for_dependents:
                waiting.add(owner.uid)
            else:
                held = True
        elif owner.uid not in known:
            unknown.append(owner)
        elif known[owner.uid]:
            held = True
        else:
            gone.add(owner.uid)
    if unknown:
        return Ask(tuple(unknown))
    if held:
        return Disown(frozenset(gone | waiting)) if gone or waiting else Keep()
    if waiting and graph.has_dependents(node.uid):
        circle = any(dependent.waits_for_dependents for dependent in graph.dependents(node.uid))
        blocked = frozenset(owner.uid for owner in node.owners if owner.blocks)
        return Delete("Foreground", blocked if circle else frozenset())
    return Delete(_policy(node))


def _policy(node: Node) -> Policy:
    """What the object's own finalizers ask for; else its dependents go in the background."""
    if ORPHAN in node.finalizers:
        return "Orphan"
    return "Foreground" if FOREGROUND in node.finalizers else "Background"
