"""Runs admission plugins in order; which ones concern a request is worked out once for each kind and operation."""

from collections.abc import Sequence
from importlib.metadata import entry_points

from corral.apiserver.admission.api import Lookup, Operation, Plugin, Review
from corral.apiserver.admission.certificates import CertificateRequests
from corral.apiserver.admission.guards import Escalation, NodeRestriction
from corral.apiserver.admission.limit_ranger import LimitRanger
from corral.apiserver.admission.namespaces import NamespaceLifecycle
from corral.apiserver.admission.priority import Priority
from corral.apiserver.admission.queues import QueuedWork, QueueRules
from corral.apiserver.admission.runtime_class import RuntimeClass
from corral.apiserver.admission.service_account import ServiceAccounts
from corral.apiserver.admission.storage import DefaultStorageClass, StorageObjectInUseProtection
from corral.apiserver.admission.tolerations import SECONDS, DefaultTolerationSeconds
from corral.apiserver.auth.api import Authorizer
from corral.apiserver.auth.authorizer import CellAuthorizer
from corral.kinds.kind import Kind
from corral.kinds.types import Resource

ENTRY_POINTS = "corral.admission"


def plugins(authorizer: Authorizer, unreachable_seconds: int = SECONDS) -> list[Plugin]:
    """The built-in plugins in their order, then those that installed packages register.

    `unreachable_seconds`: for how long pods bear a silent machine unless they say so themselves.
    """
    built_in: list[Plugin] = [
        NamespaceLifecycle(),
        LimitRanger(),
        ServiceAccounts(),
        DefaultTolerationSeconds(unreachable_seconds),
        Priority(),
        RuntimeClass(),
        DefaultStorageClass(),
        StorageObjectInUseProtection(),
        NodeRestriction(),
        QueuedWork(),
        QueueRules(),
        CertificateRequests(authorizer),
    ]
    if isinstance(authorizer, CellAuthorizer):
        built_in.append(Escalation(authorizer))
    return built_in + [point.load()() for point in entry_points(group=ENTRY_POINTS)]


class Chain:
    """All plugins of a server."""

    def __init__(self, chain: Sequence[Plugin]) -> None:
        self._chain = tuple(chain)
        self._concerned: dict[tuple[Resource, Operation, str], tuple[Plugin, ...]] = {}

    def concerned(self, kind: Kind, operation: Operation, subresource: str) -> tuple[Plugin, ...]:
        """The plugins that such requests go through."""
        key = (kind.resource, operation, subresource)
        found = self._concerned.get(key)
        if found is None:
            found = tuple(plugin for plugin in self._chain if plugin.applies(kind, operation, subresource))
            self._concerned[key] = found
        return found

    def mutate(self, review: Review, lookup: Lookup) -> None:
        """Let the plugins change `review.obj`. Raises StatusError."""
        for plugin in self.concerned(review.kind, review.operation, review.subresource):
            plugin.mutate(review, lookup)

    def validate(self, review: Review, lookup: Lookup) -> None:
        """Let the plugins refuse. Raises StatusError."""
        for plugin in self.concerned(review.kind, review.operation, review.subresource):
            plugin.validate(review, lookup)
