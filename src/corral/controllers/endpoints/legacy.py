"""What a Service's Endpoints should be: the older form, one object with all addresses. Pure."""

from collections.abc import Sequence
from typing import Final

from corral.controllers.endpoints.backends import Backend, Port, backends, is_headless
from corral.controllers.endpoints.slices import HEADLESS_LABEL
from corral.kinds.owners import controller_reference
from corral.kinds.types import Obj

MOST: Final = 1000
"""Addresses in one object at most; more are left out, and an annotation says so (Kubernetes' limit)."""
OVER_CAPACITY: Final = "endpoints.kubernetes.io/over-capacity"
MANAGER_LABEL: Final = "endpoints.kubernetes.io/managed-by"
MANAGER: Final = "endpoint-controller"


def endpoints(service: Obj, pods: Sequence[Obj]) -> Obj:
    """The Service's Endpoints; pods that are about to end are no part of it."""
    metadata = service["metadata"]
    labels = {**(metadata.get("labels") or {}), MANAGER_LABEL: MANAGER}
    if is_headless(service):
        labels[HEADLESS_LABEL] = ""
    found: Obj = {
        "kind": "Endpoints",
        "apiVersion": "v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [controller_reference(service)],
        },
    }
    left = MOST
    subsets: list[Obj] = []
    for ports, members in backends(service, pods).items():
        staying = sorted((member for member in members if not member.terminating), key=lambda one: not one.ready)
        if len(staying) > left:
            found["metadata"]["annotations"] = {OVER_CAPACITY: "truncated"}
        subset = _subset(ports, staying[:left])
        left = max(0, left - len(staying))
        subsets += [subset] if subset is not None else []
    if subsets:
        found["subsets"] = subsets
    return found


def same(one: Obj, other: Obj) -> bool:
    """Whether both say the same."""
    return _content(one) == _content(other)


def _content(obj: Obj) -> tuple[object, ...]:
    metadata = obj["metadata"]
    return obj.get("subsets") or [], metadata.get("labels"), (metadata.get("annotations") or {}).get(OVER_CAPACITY)


def _subset(ports: tuple[Port, ...], members: Sequence[Backend]) -> Obj | None:
    if not members:
        return None
    subset: Obj = {}
    for field, state in (("addresses", True), ("notReadyAddresses", False)):
        listed = [_address(member) for member in members if member.ready is state]
        if listed:
            subset[field] = listed
    listed_ports = [
        {
            **({"name": name} if name else {}),
            "port": number,
            "protocol": protocol,
            **({"appProtocol": application} if application else {}),
        }
        for name, number, protocol, application in ports
    ]
    if listed_ports:
        subset["ports"] = listed_ports
    return subset


def _address(member: Backend) -> Obj:
    address: Obj = {"ip": member.address, "targetRef": member.target}
    if member.node:
        address["nodeName"] = member.node
    if member.hostname:
        address["hostname"] = member.hostname
    return address
