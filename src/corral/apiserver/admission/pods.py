"""What plugins about pods share."""

from collections.abc import Iterator

from corral.apiserver.admission.api import Operation
from corral.kinds.kind import Kind
from corral.kinds.resources import PODS
from corral.kinds.types import Obj


def is_pod_create(kind: Kind, operation: Operation, subresource: str) -> bool:
    """Whether a request makes a pod."""
    return operation == "CREATE" and kind.resource == PODS and not subresource


def containers(pod: Obj) -> Iterator[Obj]:
    """Init containers, then containers."""
    spec = pod.get("spec") or {}
    yield from spec.get("initContainers") or ()
    yield from spec.get("containers") or ()
