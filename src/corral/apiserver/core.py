"""What the verbs share: where objects are kept, how they are found and shown, what time it is."""

import random
from collections.abc import Iterable, Sequence
from datetime import datetime

from corral.apiserver.admission.chain import Chain
from corral.apiserver.conversion import home
from corral.apiserver.rendering import Rendered, as_stored, read, render
from corral.base.clock import Clock, rfc3339
from corral.kinds.kind import Kind
from corral.kinds.registry import Registry
from corral.kinds.status import not_found
from corral.kinds.types import Obj, Resource
from corral.store.protocol import Entry, Store

_LISTINGS_KEPT = 256


def prefix_of(stored: Resource, namespace: str = "") -> str:
    """The store prefix of a collection, across namespaces if `namespace` is empty."""
    collection = f"/{stored.group or 'core'}/{stored.plural}/"
    return f"{collection}{namespace}/" if namespace else collection


def key_of(stored: Resource, namespace: str, name: str) -> str:
    """The store key of an object."""
    if stored.namespaced:
        return f"/{stored.group or 'core'}/{stored.plural}/{namespace}/{name}"
    return f"/{stored.group or 'core'}/{stored.plural}/{name}"


class Core:
    """The store with the registry's knowledge of what its values are."""

    def __init__(self, store: Store, registry: Registry, admission: Chain, clock: Clock, rng: random.Random) -> None:
        self.store = store
        self.registry = registry
        self.admission = admission
        self.clock = clock
        self.rng = rng
        self._homes: dict[Resource, Resource] = {}
        self._homes_of = registry.generation
        self._listed: dict[str, tuple[Sequence[Entry], list[Obj]]] = {}

    def stored(self, kind: Kind) -> Resource:
        """What objects of `kind` are stored as; `kind.resource` itself if that is it."""
        if self._homes_of != self.registry.generation:
            self._homes.clear()
            self._homes_of = self.registry.generation
        found = self._homes.get(kind.resource)
        if found is None:
            found = self._homes[kind.resource] = home(kind.resource, kind.stored_as)
        return kind.resource if found is kind.resource or found == kind.resource else found

    def key(self, kind: Kind, namespace: str, name: str) -> str:
        """The store key of an object."""
        return key_of(self.stored(kind), namespace, name)

    def prefix(self, kind: Kind, namespace: str) -> str:
        """The store prefix of a collection."""
        return prefix_of(self.stored(kind), namespace if kind.resource.namespaced else "")

    def entry(self, kind: Kind, namespace: str, name: str) -> Entry:
        """The current entry of an object.

        Raises:
            StatusError: 404.
        """
        found = self.store.get(self.key(kind, namespace, name))
        if found is None:
            raise not_found(kind.resource.group, kind.resource.plural, name)
        return found

    def render(self, kind: Kind, entry: Entry) -> Rendered:
        """An entry as `kind` shows it."""
        return render(entry, kind, self.stored(kind))

    def render_all(self, kind: Kind, entries: Iterable[Entry]) -> list[Rendered]:
        """Entries as `kind` shows them; what is rendered already costs one attribute."""
        stored = self.stored(kind)
        if stored is kind.resource:
            return [as_stored(entry) for entry in entries]
        return [render(entry, kind, stored) for entry in entries]

    def find(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        """The object, for reading only; None if there is none. For kinds that are stored as `resource` says."""
        entry = self.store.get(key_of(resource, namespace, name))
        return None if entry is None else read(entry)

    def all(self, resource: Resource, namespace: str = "") -> list[Obj]:
        """All objects of a collection, for reading only."""
        prefix = prefix_of(resource, namespace)
        entries, _ = self.store.current(prefix)
        # The store keeps a listing until something in it is written, and admission asks for some with every pod.
        seen, objects = self._listed.get(prefix, (None, []))
        if seen is not entries:
            objects = [read(entry) for entry in entries]
            if len(self._listed) >= _LISTINGS_KEPT:
                self._listed.clear()
            self._listed[prefix] = entries, objects
        return objects

    def now(self) -> datetime:
        return self.clock.now()

    def timestamp(self) -> str:
        """The time as metadata carries it."""
        return rfc3339(self.clock.now())
