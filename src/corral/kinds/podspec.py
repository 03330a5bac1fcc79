"""Arithmetic on pods: what one asks for, what it may use, how it stands.

Sources: k8s.io/component-helpers/resource (PodRequests, PodLimits) and kubernetes/pkg/apis/core/v1/helper/qos, as of
v1.36, with sidecars (restartable init containers), overhead and pod-level resources.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from corral.base import quantities
from corral.kinds import conditions
from corral.kinds.accelerators import GPU_MILLI, gpu_fraction
from corral.kinds.types import Obj

_POD_LEVEL: Final = ("cpu", "memory")
_HUGE_PAGES: Final = "hugepages-"
_ENDED: Final = ("Succeeded", "Failed")


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


def pod_requests(pod: Obj, *, missing: Mapping[str, int] | None = None, held: bool = False) -> dict[str, int]:
    """What must be free on a machine for the pod: cpu in thousandths, everything else in whole units.

    max(the largest init step, sum of containers) with sidecars counted beside both, then pod-level requests, then
    overhead. Where a request is missing and a limit is given, the limit is the request (as the API defaults it). A part
    of a GPU may be asked for by an annotation.

    Args:
        missing: what a container counts for that asks for nothing of a resource, not even 0.
        held: count what containers hold by the pod's status, too: while one is resized, the most of what is asked for,
            what the machine has granted and what it has set; without what is asked for, if that is infeasible.

    Raises:
        ValueError: a quantity cannot be read.
    """
    spec = pod.get("spec") or {}
    read = _held(pod) if held else _container_requests
    total = _aggregate(spec, (lambda container: {**missing, **read(container)}) if missing else read)
    pod_level = spec.get("resources")
    if pod_level:
        requests = amounts(pod_level.get("requests"))
        for name, value in amounts(pod_level.get("limits")).items():
            requests.setdefault(name, total.get(name, value))
        if held and requests:
            requests = _held_by_pod(pod, requests)
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


def resizing(pod: Obj) -> list[object]:
    """What of the status `pod_requests` with `held` looks at, as JSON data; empty for a pod that is not resized.

    Agents repeat in the status what is asked for in the spec: as long as it is the same, it says nothing.
    """
    status = pod.get("status") or {}
    asked = {container["name"]: (container.get("resources") or {}).get("requests") for container in _lasting(pod)}
    found: list[object] = [
        [name, told]
        for name, one in _statuses(pod).items()
        for told in ((one.get("resources") or {}).get("requests"), one.get("allocatedResources"))
        if told and told != asked[name] and amounts(told) != amounts(asked[name])
    ]
    whole = (pod.get("spec") or {}).get("resources")
    if whole:
        told = [(status.get("resources") or {}).get("requests"), status.get("allocatedResources")]
        found += [one for one in told if one and one != whole.get("requests")]
    return [*found, _is_infeasible(pod)] if found else []


def _lasting(pod: Obj) -> Iterator[Obj]:
    """Containers and sidecars: those that can be resized."""
    spec = pod.get("spec") or {}
    yield from spec.get("containers") or ()
    yield from filter(is_sidecar, spec.get("initContainers") or ())


def _statuses(pod: Obj) -> dict[str, Obj]:
    """By container, the statuses that say what is held."""
    status = pod.get("status") or {}
    told = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    telling = {one["name"]: one for one in told if one.get("resources") or one.get("allocatedResources")}
    return {
        container["name"]: telling[container["name"]] for container in _lasting(pod) if container["name"] in telling
    }


def _is_infeasible(pod: Obj) -> bool:
    return (conditions.get(pod, "PodResizePending") or {}).get("reason") == "Infeasible"


def _held(pod: Obj) -> Callable[[Obj], dict[str, int]]:
    """Reads a container's requests, and what it holds."""
    if not (pod.get("status") or {}).get("containerStatuses"):
        return _container_requests
    statuses, infeasible = _statuses(pod), _is_infeasible(pod)

    def read(container: Obj) -> dict[str, int]:
        status = statuses.get(container["name"])
        if status is None:
            return _container_requests(container)
        found = {} if infeasible else _container_requests(container)
        _raise(found, amounts((status.get("resources") or {}).get("requests")))
        _raise(found, amounts(status.get("allocatedResources")))
        return found

    return read


def _held_by_pod(pod: Obj, requests: dict[str, int]) -> dict[str, int]:
    """Pod-level requests; those of the status have the overhead in them."""
    status, overhead = pod.get("status") or {}, amounts((pod.get("spec") or {}).get("overhead"))
    told = [amounts((status.get("resources") or {}).get("requests")), amounts(status.get("allocatedResources"))]
    found = {} if _is_infeasible(pod) and any(told) else dict(requests)
    for one in told:
        _raise(found, {name: value - overhead.get(name, 0) for name, value in one.items()})
    return found


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
    status = pod.get("status")
    return status is not None and status.get("phase") in _ENDED


def is_ready(pod: Obj) -> bool:
    """Whether the pod's Ready condition is True."""
    return conditions.is_true(pod, "Ready")


def priority(pod: Obj) -> int:
    """The pod's priority as resolved by admission; 0 if none."""
    return int((pod.get("spec") or {}).get("priority") or 0)
