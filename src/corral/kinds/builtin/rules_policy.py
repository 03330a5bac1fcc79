"""Roles, priorities, leases, network and storage classes."""

from collections.abc import Mapping
from typing import Any, Final

from corral.kinds.builtin.rules_common import (
    check_label_selector,
    is_cidr,
    is_ip,
    non_negative,
    port_number,
    port_or_name,
)
from corral.kinds.schema.causes import forbidden, invalid, not_supported, required
from corral.kinds.status import Cause
from corral.kinds.types import Obj
from corral.kinds.validation import dns_label, dns_subdomain, immutable, path_segment

RBAC: Final = "rbac.authorization.k8s.io"
_HIGHEST_USER_PRIORITY: Final = 1_000_000_000
_SYSTEM: Final[Mapping[str, int]] = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}


def check_role(obj: Obj, old: Obj | None) -> list[Cause]:
    """Role and ClusterRole."""
    causes: list[Cause] = []
    namespaced = obj.get("kind") == "Role"
    for index, rule in enumerate(obj.get("rules") or ()):
        where = f"rules[{index}]"
        if not rule.get("verbs"):
            causes.append(required(f"{where}.verbs", "verbs must contain at least one value"))
        urls = rule.get("nonResourceURLs")
        if urls:
            if namespaced:
                why = "namespaced rules cannot apply to non-resource URLs"
                causes.append(invalid(f"{where}.nonResourceURLs", urls, why))
            if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                why = "rules cannot apply to both regular resources and non-resource URLs"
                causes.append(invalid(f"{where}.nonResourceURLs", urls, why))
            continue
        if not rule.get("apiGroups"):
            causes.append(required(f"{where}.apiGroups", "resource rules must supply at least one api group"))
        if not rule.get("resources"):
            causes.append(required(f"{where}.resources", "resource rules must supply at least one resource"))
    selectors = (obj.get("aggregationRule") or {}).get("clusterRoleSelectors")
    if obj.get("aggregationRule") is not None and not selectors:
        causes.append(
            required(
                "aggregationRule.clusterRoleSelectors",
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            )
        )
    return causes


def check_binding(obj: Obj, old: Obj | None) -> list[Cause]:
    """RoleBinding and ClusterRoleBinding."""
    causes: list[Cause] = []
    reference = obj.get("roleRef") or {}
    if reference.get("apiGroup") != RBAC:
        causes.append(not_supported("roleRef.apiGroup", reference.get("apiGroup"), (RBAC,)))
    kinds = ("Role", "ClusterRole") if obj.get("kind") == "RoleBinding" else ("ClusterRole",)
    if reference.get("kind") not in kinds:
        causes.append(not_supported("roleRef.kind", reference.get("kind", ""), kinds))
    causes += [invalid("roleRef.name", reference.get("name"), why) for why in path_segment(reference.get("name", ""))]
    for index, subject in enumerate(obj.get("subjects") or ()):
        causes += _check_subject(subject, f"subjects[{index}]", namespaced=obj.get("kind") == "RoleBinding")
    if old is not None and reference != old.get("roleRef"):
        causes.append(invalid("roleRef", reference, "cannot change roleRef"))
    return causes


def _check_subject(subject: Mapping[str, Any], path: str, *, namespaced: bool) -> list[Cause]:
    group = subject.get("apiGroup", "")
    if subject.get("kind") == "ServiceAccount":
        causes = [] if not group else [not_supported(f"{path}.apiGroup", group, ("",))]
        if not namespaced and not subject.get("namespace"):
            causes.append(required(f"{path}.namespace"))
        return causes
    if subject.get("kind") in ("User", "Group") and group != RBAC:
        return [not_supported(f"{path}.apiGroup", group, (RBAC,))]
    return []


def check_priority_class(obj: Obj, old: Obj | None) -> list[Cause]:
    """PriorityClass."""
    causes: list[Cause] = []
    name, value = obj["metadata"].get("name", ""), obj.get("value", 0)
    if name.startswith("system-"):
        if _SYSTEM.get(name) != value:
            why = "priority class names with 'system-' prefix are reserved for system use only"
            causes.append(forbidden("metadata.name", why))
    elif value > _HIGHEST_USER_PRIORITY:
        why = f"maximum allowed value of a user defined priority is {_HIGHEST_USER_PRIORITY}"
        causes.append(forbidden("value", why))
    if old is not None:
        if value != old.get("value", 0):
            causes.append(forbidden("value", "may not be changed in an update."))
        causes += immutable(obj.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy")
    return causes


def check_lease(obj: Obj, old: Obj | None) -> list[Cause]:
    """Lease."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    causes = non_negative(spec, "spec", "leaseTransitions")
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        causes.append(invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if spec.get("holderIdentity") == "":
        causes.append(required("spec.holderIdentity", "must not be empty"))
    return causes


def check_ingress(obj: Obj, old: Obj | None) -> list[Cause]:
    """Ingress."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    causes: list[Cause] = []
    if not spec.get("rules") and not spec.get("defaultBackend"):
        causes.append(invalid("spec", dict(spec), "either `defaultBackend` or `rules` must be specified"))
    if spec.get("defaultBackend"):
        causes += _check_backend(spec["defaultBackend"], "spec.defaultBackend")
    for index, rule in enumerate(spec.get("rules") or ()):
        where = f"spec.rules[{index}]"
        host = rule.get("host", "")
        if host:
            if is_ip(host):
                causes.append(invalid(f"{where}.host", host, "must be a DNS name, not an IP address"))
            plain = host.removeprefix("*.")
            causes += [invalid(f"{where}.host", host, why) for why in dns_subdomain(plain)]
        for place, path in enumerate((rule.get("http") or {}).get("paths") or ()):
            causes += _check_http_path(path, f"{where}.http.paths[{place}]")
    return causes


def _check_http_path(path: Mapping[str, Any], where: str) -> list[Cause]:
    causes: list[Cause] = []
    text = path.get("path", "")
    if path.get("pathType") in ("Exact", "Prefix") and not text.startswith("/"):
        causes.append(invalid(f"{where}.path", text, "must be an absolute path"))
    return causes + _check_backend(path.get("backend") or {}, f"{where}.backend")


def _check_backend(backend: Mapping[str, Any], path: str) -> list[Cause]:
    service = backend.get("service")
    if service is None:
        return [] if backend.get("resource") else [required(path, "cannot have neither resource nor service")]
    causes = [invalid(f"{path}.service.name", service.get("name"), why) for why in dns_label(service.get("name", ""))]
    port = service.get("port") or {}
    if bool(port.get("name")) == bool(port.get("number")):
        causes.append(
            required(
                f"{path}.port",
                "port name or number is required" if not port else "cannot set both port name & port number",
            )
        )
    elif port.get("number"):
        causes += port_number(port["number"], f"{path}.service.port.number")
    return causes


def check_network_policy(obj: Obj, old: Obj | None) -> list[Cause]:
    """NetworkPolicy."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    causes = check_label_selector(spec.get("podSelector"), "spec.podSelector")
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            where = f"spec.{direction}[{index}]"
            for place, port in enumerate(rule.get("ports") or ()):
                if port.get("port") is not None:
                    causes += port_or_name(port["port"], f"{where}.ports[{place}].port")
            for place, peer in enumerate(rule.get(peers) or ()):
                causes += _check_peer(peer, f"{where}.{peers}[{place}]")
    return causes


def _check_peer(peer: Mapping[str, Any], path: str) -> list[Cause]:
    if not peer:
        return [required(path, "must specify a peer")]
    causes = check_label_selector(peer.get("podSelector"), f"{path}.podSelector")
    causes += check_label_selector(peer.get("namespaceSelector"), f"{path}.namespaceSelector")
    block = peer.get("ipBlock")
    if block is not None:
        if len(peer) > 1:
            causes.append(forbidden(path, "may not specify both ipBlock and another peer"))
        for field, texts in (("cidr", [block.get("cidr", "")]), ("except", block.get("except") or [])):
            for text in texts:
                if not is_cidr(text):
                    why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
                    causes.append(invalid(f"{path}.ipBlock.{field}", text, why))
    return causes


def check_storage_class(obj: Obj, old: Obj | None) -> list[Cause]:
    """StorageClass: nothing of it changes later but what may grow."""
    if old is None:
        return []
    causes: list[Cause] = []
    for field in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
        if obj.get(field) != old.get(field):
            causes.append(forbidden(field, "updates to " + field + " are forbidden."))
    return causes


def check_ingress_class(obj: Obj, old: Obj | None) -> list[Cause]:
    """IngressClass."""
    if old is None:
        return []
    now, before = obj.get("spec") or {}, old.get("spec") or {}
    return immutable(now.get("controller"), before.get("controller"), "spec.controller")


def check_runtime_class(obj: Obj, old: Obj | None) -> list[Cause]:
    """RuntimeClass."""
    handler = obj.get("handler", "")
    causes = [invalid("handler", handler, why) for why in dns_label(handler)] if handler else []
    return causes + (immutable(handler, old.get("handler", ""), "handler") if old is not None else [])


def check_controller_revision(obj: Obj, old: Obj | None) -> list[Cause]:
    """ControllerRevision."""
    causes = non_negative(obj, "", "revision")
    return causes + (immutable(obj.get("data"), old.get("data"), "data") if old is not None else [])
