"""What the auth room reads of the store: one object by key, and the keys' spelling."""

from typing import Protocol

from corral.apiserver.rendering import read
from corral.kinds.types import Obj
from corral.store.protocol import Entry

RBAC_PREFIX = "/rbac.authorization.k8s.io/"
PODS_PREFIX = "/core/pods/"


class Lookup(Protocol):
    """The one call of a store that most of this room needs; it answers from memory, linearizable with every write."""

    def get(self, key: str) -> Entry | None: ...


def core_key(plural: str, namespace: str, name: str) -> str:
    """The store's key of an object of the core group; `namespace` is empty for cluster-scoped kinds."""
    return f"/core/{plural}/{namespace}/{name}" if namespace else f"/core/{plural}/{name}"


def decode(entry: Entry) -> Obj:
    """The object in an entry, for reading only: the verbs and watchers of this server share it."""
    return read(entry)
