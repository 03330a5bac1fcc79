"""What plans and simulations keep of Nodes and pods: a fraction, because they may hold many thousands."""

from collections.abc import Iterable
from functools import lru_cache

from corral.kinds import conditions
from corral.kinds.accelerators import DEVICES_ANNOTATION, FRACTION_ANNOTATION
from corral.kinds.podspec import resizing
from corral.kinds.storage import claims_of
from corral.kinds.types import Obj
from corral.scheduler.images import read_images

_METADATA = ("name", "namespace", "uid", "resourceVersion", "labels", "deletionTimestamp")
_POD_SPEC = (
    "affinity",
    "hostNetwork",
    "nodeName",
    "nodeSelector",
    "overhead",
    "preemptionPolicy",
    "priority",
    "resources",
    "schedulerName",
    "schedulingGates",
    "schedulingGroup",
    "tolerations",
    "topologySpreadConstraints",
)
_CLAIMING = frozenset({"persistentVolumeClaim", "ephemeral"})
_POD_ANNOTATIONS = (FRACTION_ANNOTATION, DEVICES_ANNOTATION)
_CONTAINER = ("image", "name", "ports", "resources", "restartPolicy")


def trim_pod(pod: Obj) -> Obj:
    """The parts of a pod that placing, explaining and reporting look at."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    kept = _pick(spec, _POD_SPEC)
    for field in ("containers", "initContainers"):
        if spec.get(field):
            kept[field] = [_pick(container, _CONTAINER) for container in spec[field]]
    if spec.get("volumes") and claims_of(pod):
        kept["volumes"] = [_trim_volume(volume) for volume in spec["volumes"] if volume.keys() & _CLAIMING]
    told = [conditions.get(pod, "PodScheduled")]
    held: Obj = {}
    if status.get("containerStatuses") and resizing(pod):
        held = _held(status)
        told.append(conditions.get(pod, "PodResizePending"))
    return {
        **_pick(pod, ("kind", "apiVersion")),
        "metadata": _pod_metadata(pod["metadata"]),
        "spec": kept,
        "status": {
            **_pick(status, ("phase", "nominatedNodeName")),
            **held,
            "conditions": [condition for condition in told if condition is not None],
        },
    }


def _held(status: Obj) -> Obj:
    """What a pod that is being resized holds."""
    kept = _pick(status, ("resources", "allocatedResources"))
    for field in ("containerStatuses", "initContainerStatuses"):
        if status.get(field):
            kept[field] = [_pick(one, ("name", "resources", "allocatedResources")) for one in status[field]]
    return kept


def _trim_volume(volume: Obj) -> Obj:
    """Which claim it uses, without the template of one."""
    return {name: {} if name == "ephemeral" else value for name, value in volume.items()}


def _pod_metadata(metadata: Obj) -> Obj:
    kept = _pick(metadata, _METADATA)
    annotations = _pick(metadata.get("annotations") or {}, _POD_ANNOTATIONS)
    return {**kept, "annotations": annotations} if annotations else kept


def trim_node(node: Obj) -> Obj:
    """The parts of a Node that placing looks at."""
    ready = conditions.get(node, "Ready")
    images = [_image(tuple(image.get("names") or ()), image.get("sizeBytes") or 0) for image in read_images(node)]
    return {
        **_pick(node, ("kind", "apiVersion")),
        "metadata": _pick(node["metadata"], _METADATA),
        "spec": _pick(node.get("spec") or {}, ("taints", "unschedulable")),
        "status": {
            **_pick(node.get("status") or {}, ("allocatable", "capacity")),
            **({"images": images} if images else {}),
            "conditions": [ready] if ready is not None else [],
        },
    }


@lru_cache(maxsize=65_536)
def _image(names: tuple[str, ...], size: int) -> Obj:
    """One object for all machines that have the image: there may be fifty on each of ten thousand."""
    return {"names": list(names), "sizeBytes": size}


def _pick(fields: Obj, names: Iterable[str]) -> Obj:
    return {name: fields[name] for name in names if name in fields}
