"""DefaultTolerationSeconds: a pod stays on a machine that is not ready or not reachable for five minutes."""

from corral.apiserver.admission.api import Lookup, Operation, Passive, Review
from corral.apiserver.admission.pods import is_pod_create
from corral.kinds.kind import Kind

SECONDS = 300
_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class DefaultTolerationSeconds(Passive):
    """As kube-apiserver's plugin of that name."""

    name = "DefaultTolerationSeconds"

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        return is_pod_create(kind, operation, subresource)

    def mutate(self, review: Review, lookup: Lookup) -> None:
        spec = review.obj.get("spec")
        if not isinstance(spec, dict):
            return
        given = spec.get("tolerations") or []
        missing = [taint for taint in _TAINTS if not any(_tolerates(toleration, taint) for toleration in given)]
        if missing:
            added = [
                {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}
                for taint in missing
            ]
            spec["tolerations"] = [*given, *added]


def _tolerates(toleration: dict[str, object], taint: str) -> bool:
    return toleration.get("key") in (taint, None, "") and toleration.get("effect") in ("NoExecute", None, "")
