"""Which pods serve a Service, where, and in what state. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from corral.controllers.pods.pods import is_deleting
from corral.kinds.podspec import is_ready, is_terminal
from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Obj

ZONE_LABEL: Final = "topology.kubernetes.io/zone"

Port = tuple[str, int | None, str, str]
"""Name, number (None: none on any pod), protocol, application protocol."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One pod of a Service."""

    pod: str
    namespace: str
    uid: str
    address: str
    node: str
    hostname: str
    ready: bool
    """Whether it should get requests."""
    serving: bool
    """Whether it could answer."""
    terminating: bool

    @property
    def target(self) -> Obj:
        """The reference to the pod."""
        return {"kind": "Pod", "namespace": self.namespace, "name": self.pod, "uid": self.uid}


def has_selector(service: Obj) -> bool:
    """Whether the Service chooses pods: otherwise its endpoints are somebody else's."""
    spec = service.get("spec") or {}
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName"


def chooses(service: Obj, pod: Obj) -> bool:
    """Whether the pod is one of the Service's."""
    labels = pod["metadata"].get("labels") or {}
    selector = LabelSelector.from_object({"matchLabels": (service.get("spec") or {}).get("selector") or {}})
    return has_selector(service) and selector.matches(labels)


def is_headless(service: Obj) -> bool:
    """Whether the Service has no address of its own."""
    return bool((service.get("spec") or {}).get("clusterIP") == "None")


def backends(service: Obj, pods: Iterable[Obj]) -> Mapping[tuple[Port, ...], list[Backend]]:
    """The Service's pods that have an address, by the ports that they offer it on, ordered by name.

    A port that a Service names, not numbers, may have another number on each pod.
    """
    spec = service.get("spec") or {}
    found: dict[tuple[Port, ...], list[Backend]] = {}
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"]["name"])):
        address = (pod.get("status") or {}).get("podIP")
        if not address or is_terminal(pod):
            continue
        ports = tuple(port for item in spec.get("ports") or () if (port := _port(item, pod)) is not None)
        if ports or not spec.get("ports"):
            found.setdefault(ports, []).append(_backend(service, pod, address))
    return found


def _backend(service: Obj, pod: Obj, address: str) -> Backend:
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    serving, terminating = is_ready(pod), is_deleting(pod)
    always = bool((service.get("spec") or {}).get("publishNotReadyAddresses"))
    named = spec.get("hostname") if spec.get("subdomain") == service["metadata"]["name"] else ""
    return Backend(
        pod=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata.get("uid", ""),
        address=address,
        node=spec.get("nodeName") or "",
        hostname=named or "",
        ready=always or (serving and not terminating),
        serving=serving,
        terminating=terminating,
    )


def _port(item: Obj, pod: Obj) -> Port | None:
    protocol = item.get("protocol") or "TCP"
    target = item.get("targetPort") or item.get("port")
    number = target if isinstance(target, int) else _named(str(target), protocol, pod)
    return (item.get("name") or "", number, protocol, item.get("appProtocol") or "") if number else None


def _named(name: str, protocol: str, pod: Obj) -> int | None:
    spec = pod.get("spec") or {}
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("name") == name and (port.get("protocol") or "TCP") == protocol:
                return int(port["containerPort"])
    return None
