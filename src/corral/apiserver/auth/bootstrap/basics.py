"""The system's namespaces, priority classes and the default class of storage."""

from corral.kinds.storage import IS_DEFAULT, LOCAL_PROVISIONER
from corral.kinds.types import Obj

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")

# pkg/apis/scheduling: above every user's class (at most one thousand million).
_PRIORITIES = (
    ("system-cluster-critical", 2_000_000_000, "For pods that the cell needs and that may move to another machine."),
    ("system-node-critical", 2_000_001_000, "For pods that their machine needs and that must not move."),
)
# Borg's bands (EuroSys'15, section 2.5), each a hundred million wide, so that there is room for classes within them.
# Pods without a class are in the lowest. The scheduler lets no production pod preempt another.
_BANDS = (
    ("corral-monitoring", 300_000_000, "For pods that watch over the cell and everything in it."),
    ("corral-production", 200_000_000, "For pods that users wait for; they never preempt one another."),
    ("corral-batch", 100_000_000, "For work that ends and matters; it makes way for production."),
    ("corral-free", 0, "For work that runs on what is left over."),
)


def basics() -> list[Obj]:
    """Namespaces first: the namespaced objects of the bootstrap live in them."""
    priorities = [_priority_class(*row) for row in (*_PRIORITIES, *_BANDS)]
    return [*map(_namespace, NAMESPACES), *priorities, _local_storage()]


def _local_storage() -> Obj:
    """Claims that name no class are of this one: a directory of the machine where their first pod runs."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "corral-local", "annotations": {IS_DEFAULT: "true"}},
        "provisioner": LOCAL_PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _namespace(name: str) -> Obj:
    labels = {"kubernetes.io/metadata.name": name}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _priority_class(name: str, value: int, description: str) -> Obj:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
        "description": description,
        "preemptionPolicy": "PreemptLowerPriority",
    }
