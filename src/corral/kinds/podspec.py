"""Arithmetic on pods: what one asks for, what it may use, how it stands.

Sources: k8s.io/component-helpers/resource (PodRequests, PodLimits) and kubernetes/pkg/apis/core/v1/helper/qos, as of
v1.36, with sidecars (restartable init containers), overhead and pod-level resources.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from corral.base import quantities
from corral.kinds import conditions
from corral.kinds.accelerators import GPU_MILLI, gpu_fraction
from corral.kinds.types import Obj

_POD_LEVEL: Final = ("cpu", "memory")
_HUGE_PAGES: Final = "hugepages-"


class HostPort(NamedTuple):
    """A port of the machine that a pod claims; `ip` is `0.0.0.0` for every address."""

    protocol: str
    ip: str
    port: int


def containers(pod: Obj) -> Iterator[Obj]:
    """Init containers, then containers, then ephemeral containers, each in the order of the spec."""
    spec = pod.get("spec") or {}
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def is_sidecar(init_container: Obj) -> bool:
    """Whether an init container is a restartable one, that runs beside the containers."""
    return init_container.get("restartPolicy") == "Always"


def amount(resource: str, quantity: Any) -> int:
    """`quantity` in the units that sums are kept in: thousandths for cpu, else whole units, rounded up.

    Raises:
        ValueError: `quantity` is not a quantity.
    """
    return quantities.milli(quantity) if resource == "cpu" else quantities.whole(quantity)


def amounts(resources: Obj | None) -> dict[str, int]:
    """A resource list (`{"cpu": "1", "memory": "1Gi"}`) in the units of `amount`."""
    return {name: amount(name, quantity) for name, quantity in (resources or {}).items()}


def pod_requests(pod: Obj) -> dict[str, int]:
    """What must be free on a machine for the pod: cpu in thousandths, everything else in whole units.

    max(the largest init step, sum of containers) with sidecars counted beside both, then pod-level requests, then
    overhead. Where a request is missing and a limit is given, the limit is the request (as the API defaults it). A part
    of a GPU may be asked for by an annotation.

    Raises:
        ValueError: a quantity cannot be read.
    """
    spec = pod.get("spec") or {}
    total = _aggregate(spec, _container_requests)
    pod_level = spec.get("resources")
    if pod_level:
        requests = amounts(pod_level.get("requests"))
        for name, value in amounts(pod_level.get("limits")).items():
            requests.setdefault(name, total.get(name, value))
        total.update((name, value) for name, value in requests.items() if _is_pod_level(name))
    for name, quantity in (spec.get("overhead") or {}).items():
        total[name] = total.get(name, 0) + amount(name, quantity)
    if fraction := gpu_fraction(pod):
        total[GPU_MILLI] = fraction
    return total


def pod_limits(pod: Obj) -> dict[str, int]:
    """What the pod may use at most, in the units of `pod_requests`; a resource without a limit is absent.

    Raises:
        ValueError: a quantity cannot be read.
    """
    spec = pod.get("spec") or {}
    total = _aggregate(spec, _container_limits)
    pod_level = spec.get("resources")
    if pod_level:
        limits = amounts(pod_level.get("limits"))
        total.update((name, value) for name, value in limits.items() if _is_pod_level(name))
    for name, quantity in (spec.get("overhead") or {}).items():
        if total.get(name):
            total[name] += amount(name, quantity)
    return total


def _is_pod_level(name: str) -> bool:
    return name in _POD_LEVEL or name.startswith(_HUGE_PAGES)


def _container_requests(container: Obj) -> dict[str, int]:
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests"), resources.get("limits")
    return amounts({**limits, **(requests or {})} if limits else requests)


def _container_limits(container: Obj) -> dict[str, int]:
    return amounts((container.get("resources") or {}).get("limits"))


def _aggregate(spec: Obj, read: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for container in spec.get("containers") or ():
        _add(total, read(container))
    sidecars: dict[str, int] = {}
    largest_init: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        step = read(container)
        if is_sidecar(container):
            _add(total, step)
            _add(sidecars, step)
            step = dict(sidecars)
        else:
            _add(step, sidecars)
        _raise(largest_init, step)
    _raise(total, largest_init)
    return total


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def _raise(total: dict[str, int], floor: dict[str, int]) -> None:
    for name, value in floor.items():
        if value > total.get(name, -1):
            total[name] = value


def qos_class(pod: Obj) -> str:
    """`Guaranteed`, `Burstable` or `BestEffort`.

    Raises:
        ValueError: a quantity cannot be read.
    """
    spec = pod.get("spec") or {}
    if spec.get("resources"):
        holders = [spec]
    else:
        holders = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    guaranteed = True
    for holder in holders:
        resources = holder.get("resources") or {}
        _add(requests, _qos_amounts(resources.get("requests")))
        own_limits = _qos_amounts(resources.get("limits"))
        _add(limits, own_limits)
        guaranteed = guaranteed and len(own_limits) == len(_POD_LEVEL)
    if not requests and not limits:
        return "BestEffort"
    # A request that is missing is defaulted to its limit, so only the ones that are there can differ.
    guaranteed = guaranteed and all(limits.get(name) == value for name, value in requests.items())
    return "Guaranteed" if guaranteed else "Burstable"


def _qos_amounts(resources: Obj | None) -> dict[str, int]:
    return {
        name: nanos
        for name, quantity in (resources or {}).items()
        if name in _POD_LEVEL and (nanos := quantities.parse(quantity).nanos) > 0
    }


def host_ports(pod: Obj) -> list[HostPort]:
    """The machine's ports that the pod's containers and sidecars claim."""
    spec = pod.get("spec") or {}
    sidecars = [container for container in spec.get("initContainers") or () if is_sidecar(container)]
    on_host = bool(spec.get("hostNetwork"))
    found: list[HostPort] = []
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            number = port.get("hostPort") or (port.get("containerPort") if on_host else 0)
            if number:
                found.append(HostPort(port.get("protocol") or "TCP", port.get("hostIP") or "0.0.0.0", number))
    return found


def phase(pod: Obj) -> str:
    """`Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`; a pod without a status is Pending."""
    return (pod.get("status") or {}).get("phase") or "Pending"


def is_terminal(pod: Obj) -> bool:
    """Whether the pod has ended for good and holds no resources any more."""
    return phase(pod) in ("Succeeded", "Failed")


def is_ready(pod: Obj) -> bool:
    """Whether the pod's Ready condition is True."""
    return conditions.is_true(pod, "Ready")


def priority(pod: Obj) -> int:
    """The pod's priority as resolved by admission; 0 if none."""
    return int((pod.get("spec") or {}).get("priority") or 0)
