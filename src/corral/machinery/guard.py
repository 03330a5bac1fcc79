"""The client that a controller gets: it refuses undeclared writes and remembers the revisions of its own."""

from collections.abc import Iterable

from corral.base.errors import CorralError
from corral.client.api import ApiRequest
from corral.client.client import Client
from corral.kinds.types import Obj, Resource

EVERYTHING = "*"


class UndeclaredWrite(CorralError):
    """A controller wrote what its `writes` do not name."""


class GuardedClient(Client):
    """A client bound to what one controller declares.

    `writes` names plurals and subresources: `pods`, `jobs/status`, `leases.coordination.k8s.io` where a plural alone is
    ambiguous, `*` for controllers that work on every kind.
    """

    def __init__(self, client: Client, name: str, writes: Iterable[str]) -> None:
        super().__init__(client.transport, field_manager=client.field_manager or name)
        self._name = name
        self._writes = frozenset(writes)
        self.written: dict[Resource, int] = {}
        """The highest revision that this client wrote in each collection."""

    async def _write(self, resource: Resource, subresource: str, request: ApiRequest) -> Obj:
        self._check(resource, subresource)
        answer = await super()._write(resource, subresource, request)
        metadata = answer.get("metadata")
        if answer.get("kind") == resource.kind and isinstance(metadata, dict):
            revision = int(metadata.get("resourceVersion") or 0)
            if revision > self.written.get(resource, 0):
                self.written[resource] = revision
        return answer

    def _check(self, resource: Resource, subresource: str) -> None:
        tail = f"/{subresource}" if subresource else ""
        names = {EVERYTHING, resource.plural + tail, f"{resource.plural}.{resource.group}{tail}"}
        if self._writes.isdisjoint(names):
            declared = ", ".join(sorted(self._writes)) or "nothing"
            raise UndeclaredWrite(
                f"cannot write {resource.plural}{tail}: the controller {self._name} declares {declared}",
                f"add {resource.plural + tail!r} to its `writes`, if no other controller writes it",
            )
