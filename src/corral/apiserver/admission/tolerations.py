"""DefaultTolerationSeconds: how long a pod stays on a machine that is not ready, or not reachable."""

from corral.apiserver.admission.api import Lookup, Operation, Passive, Review
from corral.apiserver.admission.pods import is_pod_create
from corral.kinds.health import UNREACHABLE
from corral.kinds.kind import Kind

SECONDS = 300
"""Of Kubernetes, for both."""
_NOT_READY = "node.kubernetes.io/not-ready"


class DefaultTolerationSeconds(Passive):
    """As kube-apiserver's plugin of that name.

    Args:
        unreachable: seconds on a machine that is silent. One that speaks and is not ready is repaired before its pods
            are moved.
    """

    name = "DefaultTolerationSeconds"

    def __init__(self, unreachable: int = SECONDS) -> None:
        self._seconds = {_NOT_READY: SECONDS, UNREACHABLE: unreachable}

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        return is_pod_create(kind, operation, subresource)

    def mutate(self, review: Review, lookup: Lookup) -> None:
        spec = review.obj.get("spec")
        if not isinstance(spec, dict):
            return
        given = spec.get("tolerations") or []
        missing = [taint for taint in self._seconds if not any(_tolerates(toleration, taint) for toleration in given)]
        if missing:
            added = [
                {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": self._seconds[taint]}
                for taint in missing
            ]
            spec["tolerations"] = [*given, *added]


def _tolerates(toleration: dict[str, object], taint: str) -> bool:
    return toleration.get("key") in (taint, None, "") and toleration.get("effect") in ("NoExecute", None, "")
