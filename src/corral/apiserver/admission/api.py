"""What an admission plugin is. Third parties register theirs under the entry point group `corral.admission`.

Plugins are synchronous: they decide from what the server has in memory, so that they cost a write nothing but their own
computing.
"""

from typing import Literal, Protocol

import msgspec

from corral.apiserver.auth.api import User
from corral.kinds.kind import Kind
from corral.kinds.types import Obj, Resource

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


class Review(msgspec.Struct, frozen=True):
    """One write (or connection) to admit. `obj` is the caller's own and may be changed in `mutate` only."""

    operation: Operation
    kind: Kind
    namespace: str
    name: str
    subresource: str
    obj: Obj
    old: Obj | None
    user: User
    dry_run: bool = False


class Lookup(Protocol):
    """Current objects, for reading only."""

    def find(self, resource: Resource, namespace: str, name: str) -> Obj | None: ...

    def all(self, resource: Resource, namespace: str = "") -> list[Obj]: ...


class Plugin(Protocol):
    """One concern. `mutate` runs for all plugins before `validate` runs for any."""

    name: str

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        """Whether the plugin has anything to do with such requests; asked once for each combination."""

    def mutate(self, review: Review, lookup: Lookup) -> None:
        """Change `review.obj`. Raises StatusError to refuse."""

    def validate(self, review: Review, lookup: Lookup) -> None:
        """Raise StatusError to refuse."""


class Passive:
    """A plugin that does nothing; the base of those that implement one half."""

    def mutate(self, review: Review, lookup: Lookup) -> None:
        """Nothing to change."""

    def validate(self, review: Review, lookup: Lookup) -> None:
        """Nothing to refuse."""
