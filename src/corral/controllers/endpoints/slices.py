"""What a Service's EndpointSlices should be. Pure.

A pod stays in the slice it is in, so that one pod that changes rewrites one slice; new ones fill what room there is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from corral.controllers.endpoints.backends import ZONE_LABEL, Backend, Port, backends, is_headless
from corral.kinds.owners import controller_reference
from corral.kinds.types import Obj

MANAGER: Final = "endpointslice-controller.k8s.io"
SERVICE_LABEL: Final = "kubernetes.io/service-name"
MANAGER_LABEL: Final = "endpointslice.kubernetes.io/managed-by"
HEADLESS_LABEL: Final = "service.kubernetes.io/headless"
MOST: Final = 100
"""Endpoints in one slice at most (Kubernetes' default)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Slices to write."""

    create: tuple[Obj, ...] = ()
    update: tuple[Obj, ...] = ()
    delete: tuple[Obj, ...] = ()


def plan(service: Obj, pods: Sequence[Obj], zones: Mapping[str, str], slices: Sequence[Obj]) -> Plan:
    """What to write so that `slices` show the Service's `pods`.

    Args:
        zones: by machine, the zone it says it is in.
        slices: the Service's slices that this controller manages.
    """
    create: list[Obj] = []
    update: list[Obj] = []
    left = [one for one in slices if one.get("addressType") == "IPv4"]
    stale = [one for one in slices if one not in left]
    groups = backends(service, pods) or {(): []}
    for ports, members in groups.items():
        endpoints = {member.uid: _endpoint(member, zones) for member in members}
        same = [one for one in left if _ports_of(one) == _ports(ports)]
        left = [one for one in left if one not in same]
        more, changed, empty = _fill(service, ports, endpoints, same)
        create += more
        update += changed
        stale += empty
    return Plan(tuple(create), tuple(update), (*stale, *left))


def _fill(
    service: Obj, ports: tuple[Port, ...], endpoints: dict[str, Obj], same: Sequence[Obj]
) -> tuple[list[Obj], list[Obj], list[Obj]]:
    """Slices with these ports to create, to update and to delete."""
    kept: list[list[Obj]] = []
    for one in same:
        stays = [uid for item in one.get("endpoints") or () if (uid := _uid(item)) in endpoints]
        kept.append([endpoints.pop(uid) for uid in stays])
    waiting = list(endpoints.values())
    for group in kept:
        room = MOST - len(group)
        group += waiting[:room]
        waiting = waiting[room:]
    create = [_slice(service, ports, waiting[at : at + MOST]) for at in range(0, len(waiting), MOST)]
    if not same and not create:
        create = [_slice(service, ports, [])]
    update: list[Obj] = []
    empty: list[Obj] = []
    for one, group in zip(same, kept, strict=True):
        if not group and (create or one is not same[0] or any(kept)):
            empty.append(one)
            continue
        wanted = {**one, "endpoints": group, "ports": _ports(ports)}
        wanted["metadata"] = {**one["metadata"], "labels": _labels(service)}
        if _content(wanted) != _content(one):
            update.append(wanted)
    return create, update, empty


def _content(one: Obj) -> tuple[object, ...]:
    return one.get("endpoints") or [], one.get("ports") or [], one["metadata"].get("labels")


def _uid(endpoint: Obj) -> str:
    return str((endpoint.get("targetRef") or {}).get("uid", ""))


def _labels(service: Obj) -> dict[str, str]:
    metadata = service["metadata"]
    labels = {**(metadata.get("labels") or {}), SERVICE_LABEL: metadata["name"], MANAGER_LABEL: MANAGER}
    return {**labels, HEADLESS_LABEL: ""} if is_headless(service) else labels


def _slice(service: Obj, ports: tuple[Port, ...], endpoints: list[Obj]) -> Obj:
    metadata = service["metadata"]
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "generateName": f"{metadata['name']}-",
            "namespace": metadata["namespace"],
            "labels": _labels(service),
            "ownerReferences": [controller_reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": _ports(ports),
    }


def _ports(ports: tuple[Port, ...]) -> list[Obj]:
    return [
        {"name": name, "port": number, "protocol": protocol, **({"appProtocol": application} if application else {})}
        for name, number, protocol, application in ports
    ]


def _ports_of(one: Obj) -> list[Obj]:
    return [{"name": "", **port} for port in one.get("ports") or ()]


def _endpoint(backend: Backend, zones: Mapping[str, str]) -> Obj:
    conditions = {"ready": backend.ready, "serving": backend.serving, "terminating": backend.terminating}
    made: Obj = {"addresses": [backend.address], "conditions": conditions, "targetRef": backend.target}
    if backend.node:
        made["nodeName"] = backend.node
    if zones.get(backend.node):
        made["zone"] = zones[backend.node]
    if backend.hostname:
        made["hostname"] = backend.hostname
    return made


def zones_of(nodes: Sequence[Obj]) -> dict[str, str]:
    """By machine, its zone."""
    return {
        node["metadata"]["name"]: zone
        for node in nodes
        if (zone := (node["metadata"].get("labels") or {}).get(ZONE_LABEL))
    }
