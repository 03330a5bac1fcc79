"""Who owns whom, over all kinds. No I/O.

Edges are kept by the owner's uid whether or not the owner has been seen: an owner that the graph does not know is a
question for the API, never an answer. `put` and `remove` return the objects that should be looked at because of the
change; in the common case, a dependent of a healthy owner, that is nobody.
"""

from collections.abc import Iterable
from typing import NamedTuple

from corral.kinds.types import Key, Obj, Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Owner(NamedTuple):
    """One owner reference."""

    uid: str
    api_version: str
    kind: str
    name: str
    blocks: bool
    """blockOwnerDeletion: a foreground deletion of the owner waits for this object."""

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]


class Node(NamedTuple):
    """What the collector knows of an object."""

    uid: str
    resource: Resource
    key: Key
    revision: str
    owners: tuple[Owner, ...]
    finalizers: tuple[str, ...]
    deleting: bool

    @property
    def waits_for_dependents(self) -> bool:
        """Whether it is being deleted in the foreground."""
        return self.deleting and FOREGROUND in self.finalizers

    @property
    def lets_dependents_go(self) -> bool:
        """Whether it is being deleted and its dependents are to stay."""
        return self.deleting and ORPHAN in self.finalizers


class Graph:
    """All objects by uid, and the dependents of each owner."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self._dependents: dict[str, set[str]] = {}

    def dependents(self, uid: str) -> list[Node]:
        """The objects that name `uid` as an owner."""
        return [self.nodes[dependent] for dependent in self._dependents.get(uid, ())]

    def has_dependents(self, uid: str) -> bool:
        """Whether any object names `uid` as an owner."""
        return bool(self._dependents.get(uid))

    def put(self, node: Node) -> set[str]:
        """Take in an object, new or changed; who should be looked at."""
        old = self.nodes.get(node.uid)
        self.nodes[node.uid] = node
        if old is not None and old.owners == node.owners:
            look = self._waiting(owner.uid for owner in node.owners)
        else:
            look = self._relink(node, old)
        if node.waits_for_dependents and (old is None or not old.waits_for_dependents):
            look |= {node.uid, *self._dependents.get(node.uid, ())}
        if node.lets_dependents_go:
            look.add(node.uid)
        return look

    def _relink(self, node: Node, old: Node | None) -> set[str]:
        before = {owner.uid for owner in old.owners} if old is not None else set()
        after = {owner.uid for owner in node.owners}
        self._unlink(node.uid, before - after)
        for uid in after:
            self._dependents.setdefault(uid, set()).add(node.uid)
        look = self._waiting(before | after)
        if not self._is_held(node):
            look.add(node.uid)
        return look

    def remove(self, uid: str) -> set[str]:
        """Take out an object that is gone; who should be looked at."""
        node = self.nodes.pop(uid, None)
        if node is None:
            return set()
        owners = {owner.uid for owner in node.owners}
        self._unlink(uid, owners)
        return self._waiting(owners) | set(self._dependents.get(uid, ()))

    def _waiting(self, uids: Iterable[str]) -> set[str]:
        return {uid for uid in uids if (node := self.nodes.get(uid)) is not None and node.waits_for_dependents}

    def _is_held(self, node: Node) -> bool:
        """Whether every owner is known and well, so that there is nothing to decide."""
        return all(
            (found := self.nodes.get(owner.uid)) is not None
            and not found.waits_for_dependents
            and matches(found, owner, node)
            for owner in node.owners
        )

    def _unlink(self, uid: str, owners: Iterable[str]) -> None:
        for owner in owners:
            dependents = self._dependents.get(owner)
            if dependents is not None:
                dependents.discard(uid)
                if not dependents:
                    del self._dependents[owner]


def matches(found: Node, owner: Owner, dependent: Node) -> bool:
    """Whether `found` is what `dependent` names as its owner: same kind and name, and in its namespace or in none."""
    return (
        found.resource.kind == owner.kind
        and found.resource.group == owner.group
        and found.key.name == owner.name
        and found.key.namespace in ("", dependent.key.namespace)
    )


def node_of(resource: Resource, obj: Obj) -> Node:
    """The node of an object, or of its metadata alone."""
    metadata = obj["metadata"]
    owners = tuple(
        Owner(
            reference["uid"],
            reference["apiVersion"],
            reference["kind"],
            reference["name"],
            bool(reference.get("blockOwnerDeletion")),
        )
        for reference in metadata.get("ownerReferences") or ()
    )
    return Node(
        metadata["uid"],
        resource,
        Key(metadata.get("namespace", ""), metadata["name"]),
        metadata.get("resourceVersion", ""),
        owners,
        tuple(metadata.get("finalizers") or ()),
        bool(metadata.get("deletionTimestamp")),
    )
