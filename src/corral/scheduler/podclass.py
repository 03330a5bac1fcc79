"""What placing a pod depends on, read once and shared by all pods that are alike.

Pods of one workload differ in name only: they form an equivalence class, and everything that filters and scores work
out for one of them holds for all. A class is known by the bytes of the parts of the spec that placement looks at.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from corral.kinds.accelerators import GpuAsk, devices_text, gpu_ask, gpu_fraction
from corral.kinds.podspec import HostPort, host_ports, pod_requests, resizing
from corral.kinds.selectors import NodeSelector, Requirement, node_term
from corral.kinds.storage import claims_of
from corral.kinds.taints import Taint, Toleration, read_tolerations
from corral.kinds.types import Key, Obj
from corral.scheduler.images import canonical
from corral.scheduler.peers import Peers
from corral.scheduler.ties import Tie
from corral.scheduler.volumes import ClaimUse

# What scoring assumes of a container that asks for nothing, so that such pods spread too (kube-scheduler's
# DefaultMilliCPURequest and DefaultMemoryRequest in pkg/scheduler/util).
_ASSUMED: Final = {"cpu": 100, "memory": 200 << 20}
_HOST = "host"
_MOST = 2**53
"""No machine has more of anything; larger requests must neither overflow the arrays nor wrap around in their sums."""


@dataclass(frozen=True, slots=True)
class Preference:
    """One term of preferred node affinity."""

    weight: int
    on_labels: tuple[Requirement, ...]
    on_fields: tuple[Requirement, ...]


@dataclass(frozen=True, eq=False)
class PodClass:
    """One equivalence class; compared by identity."""

    requests: Mapping[str, int]
    """What it asks for, if anything: cpu in thousandths, everything else in whole units; `pods` is always 1."""
    columns: NDArray[np.intp]
    """Where in the snapshot's arrays the amounts of `requests` belong."""
    amounts: NDArray[np.int64]
    taken: NDArray[np.int64]
    """The amounts in the order of the arrays' columns, up to the last that is asked for."""
    load: NDArray[np.float64]
    """cpu and memory as scoring counts them."""
    ports: tuple[HostPort, ...]
    node_name: str
    node_selector: tuple[tuple[str, str], ...]
    affinity: NodeSelector | None
    preferences: tuple[Preference, ...]
    tolerations: tuple[Toleration, ...]
    peers: Peers
    claims: tuple[ClaimUse, ...]
    """The claims that its volumes use. A class with claims is of one namespace."""
    alone: bytes
    """Equal for classes that differ in `peers` and `devices` only."""
    mark: bytes
    """Equal for no other class."""
    scheduler: str = ""
    """`schedulerName`, if the pod gives one: by whose rules it is placed."""
    images: tuple[str, ...] = ()
    """The full names of its containers' images; machines have the image `host` without being asked."""
    containers: int = 1
    """How many containers it has, init containers too."""
    gpu: GpuAsk | None = None
    devices: tuple[int, ...] = ()
    """The GPUs that pods of the class have; empty as long as they have none."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Those of its pods."""
        return self.peers.labels

    @property
    def namespace(self) -> str:
        """That of its pods."""
        return self.peers.namespace

    def tolerates(self, taint: Taint) -> bool:
        """Whether the class may go where `taint` is."""
        return any(toleration.tolerates(taint) for toleration in self.tolerations)

    def having(self, devices: tuple[int, ...]) -> "PodClass":
        """The same class with these GPUs; not interned."""
        return self._like(devices=devices, mark=self.mark + b"@" + devices_text(devices).encode())

    def among(self, peers: Peers, mark: bytes) -> "PodClass":
        """The class of pods that differ from these in what they are to others only; not interned."""
        return self._like(peers=peers, mark=mark)

    def _like(self, **changes: Any) -> "PodClass":
        # `dataclasses.replace` sets two dozen fields one by one, while each pod that begins to end may need a class.
        made = object.__new__(PodClass)
        made.__dict__.update(self.__dict__, **changes)
        return made

    def on(self, ties: Mapping[Tie, Tie]) -> "PodClass":
        """The same class where other ties stand for those that it refers to; itself if it refers to none."""
        peers = self.peers.on(ties)
        return self if peers is self.peers else self._like(peers=peers)


def fingerprint(pod: Obj, node_name: str) -> bytes:
    """Equal for pods that are placed alike if no other pods are there. Only what `read_class` looks at goes in."""
    spec = pod.get("spec") or {}
    parts = [
        node_name,
        spec.get("nodeSelector"),
        (spec.get("affinity") or {}).get("nodeAffinity"),
        spec.get("tolerations"),
        spec.get("overhead"),
        spec.get("resources"),
        spec.get("hostNetwork"),
        spec.get("schedulerName"),
        gpu_fraction(pod),
        [_needs(container) for container in spec.get("containers") or ()],
        [_needs(container) for container in spec.get("initContainers") or ()],
        [[use.key.namespace, use.key.name, use.uid] for use in read_claims(pod)],
        resizing(pod) if (pod.get("status") or {}).get("containerStatuses") else None,
    ]
    return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)


def _needs(container: Obj) -> list[Any]:
    image = container.get("image")
    needs = [container.get("resources"), container.get("ports"), container.get("restartPolicy")]
    return needs if image == _HOST or not image else [*needs, image]


def _read_images(containers: Iterable[Obj]) -> tuple[str, ...]:
    images = (container.get("image") for container in containers)
    return tuple(sorted(canonical(image) for image in images if image and image != _HOST))


def read_claims(pod: Obj) -> tuple[ClaimUse, ...]:
    """The claims that the pod's volumes use."""
    if not (pod.get("spec") or {}).get("volumes"):
        return ()
    metadata = pod["metadata"]
    namespace = metadata.get("namespace") or ""
    return tuple(
        ClaimUse(Key(namespace, name), *((metadata["name"], metadata.get("uid", "")) if own else ()))
        for name, own in claims_of(pod)
    )


def read_class(
    pod: Obj, node_name: str, peers: Peers, alone: bytes, mark: bytes, column: Callable[[str], int]
) -> PodClass:
    """The class of `pod`.

    Args:
        node_name: the machine that the pod insists on, or empty.
        alone: the pod's fingerprint.
        mark: the same with that of its peers.
        column: gives a resource's place in the arrays.

    Raises:
        ValueError: a quantity cannot be read.
        StatusError: an affinity term makes no sense.
    """
    spec = pod.get("spec") or {}
    wanted = pod_requests(pod, held=True).items()
    counted = pod_requests(pod, held=True, missing=_ASSUMED)
    requests = {name: min(amount, _MOST) for name, amount in wanted if amount > 0} | {"pods": 1}
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    columns = np.array([column(name) for name in requests], dtype=np.intp)
    amounts = np.array(list(requests.values()), dtype=np.int64)
    taken = np.zeros(int(columns.max()) + 1, dtype=np.int64)
    taken[columns] = amounts
    return PodClass(
        requests=requests,
        columns=columns,
        amounts=amounts,
        taken=taken,
        # At least one unit: scores divide by it.
        load=np.array([min(max(counted.get(name, 0), 1), _MOST) for name in _ASSUMED], dtype=np.float64),
        ports=tuple(host_ports(pod)),
        node_name=node_name,
        node_selector=tuple(sorted((spec.get("nodeSelector") or {}).items())),
        affinity=NodeSelector.from_object(required) if required is not None else None,
        preferences=tuple(
            Preference(int(term.get("weight") or 0), *node_term(term.get("preference") or {}))
            for term in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
            # An empty term says nothing; it is not one that every machine fulfils.
            if any((term.get("preference") or {}).get(field) for field in ("matchExpressions", "matchFields"))
        ),
        tolerations=read_tolerations(spec),
        peers=peers,
        claims=read_claims(pod),
        images=_read_images(containers),
        containers=max(1, len(containers)),
        alone=alone,
        mark=mark,
        scheduler=spec.get("schedulerName") or "",
        gpu=gpu_ask(requests),
    )
