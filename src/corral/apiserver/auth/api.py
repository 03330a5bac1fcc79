"""The words between authentication, authorization and the verbs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec


@dataclass(frozen=True, slots=True)
class User:
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class Attributes(msgspec.Struct, frozen=True, gc=False):
    """What they ask for, in RBAC's words. For a non-resource request only `verb` (lower-case method) and `path`."""

    verb: str
    group: str = ""
    resource: str = ""
    """The plural."""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""
    """As in the query of a list, watch or deletecollection."""
    label_selector: str = ""

    @property
    def is_resource(self) -> bool:
        return bool(self.resource)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer; `reason` says why not, for the 403."""

    allowed: bool
    reason: str = ""


class Authenticator(Protocol):
    """Finds out who asks."""

    def token(self, token: str) -> User:
        """The holder of a bearer token; quick, because verified tokens are remembered until they expire.

        Raises:
            StatusError: 401.
        """

    def certificate(self, der: bytes) -> User:
        """The holder of a client certificate that TLS has verified (CN is the name, O are the groups)."""


class Authorizer(Protocol):
    """Decides. Synchronous: it answers from memory."""

    def authorize(self, user: User, attributes: Attributes) -> Decision: ...

    def rules_for(
        self, user: User, namespace: str
    ) -> tuple[Sequence[Mapping[str, object]], Sequence[Mapping[str, object]]]:
        """Resource rules and non-resource rules, for SelfSubjectRulesReview (`kubectl auth can-i --list`)."""
