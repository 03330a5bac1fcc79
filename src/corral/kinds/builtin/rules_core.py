"""Kinds of the core group without pods in them (Kubernetes `pkg/apis/core/validation`)."""

import binascii
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Final

from corral.base import quantities
from corral.kinds.builtin.rules_affinity import check_node_selector
from corral.kinds.builtin.rules_common import (
    check_port_name,
    is_cidr,
    is_ip,
    named,
    port_number,
    port_or_name,
)
from corral.kinds.builtin.rules_containers import check_amount
from corral.kinds.schema.causes import duplicate, forbidden, invalid, not_supported, required
from corral.kinds.status import Cause
from corral.kinds.types import Obj
from corral.kinds.validation import config_key, dns_label, immutable, label_value, qualified_name, validate_labels

DATA_LIMIT: Final = 1024 * 1024
"""Bytes of all values of a ConfigMap or Secret together."""
_FROZEN: Final = "field is immutable when `immutable` is set"
_SECRET_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_TAINT_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def _too_much(size: int, path: str) -> list[Cause]:
    if size <= DATA_LIMIT:
        return []
    return [Cause("FieldValueTooLong", f"Too long: may not be more than {DATA_LIMIT} bytes", path)]


def _check_frozen(obj: Obj, old: Obj | None, fields: Iterable[str]) -> list[Cause]:
    """An immutable ConfigMap or Secret stays as it is, and stays immutable."""
    if old is None or not old.get("immutable"):
        return []
    causes = [] if obj.get("immutable") else [forbidden("immutable", _FROZEN)]
    return causes + [forbidden(field, _FROZEN) for field in fields if (obj.get(field) or {}) != (old.get(field) or {})]


def check_config_map(obj: Obj, old: Obj | None) -> list[Cause]:
    """ConfigMap."""
    causes: list[Cause] = []
    size = 0
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    for key, value in data.items():
        causes += [invalid(f"data[{key}]", key, why) for why in config_key(key)]
        if key in binary:
            causes.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        size += len(value) if value.isascii() else len(value.encode())
    for key, value in binary.items():
        causes += [invalid(f"binaryData[{key}]", key, why) for why in config_key(key)]
        size += len(value) * 3 // 4
    return causes + _too_much(size, "data") + _check_frozen(obj, old, ("data", "binaryData"))


def check_secret(obj: Obj, old: Obj | None) -> list[Cause]:
    """Secret."""
    causes: list[Cause] = []
    data: Mapping[str, str] = obj.get("data") or {}
    for key in data:
        causes += [invalid(f"data[{key}]", key, why) for why in config_key(key)]
    causes += _too_much(sum(len(value) * 3 // 4 for value in data.values()), "data")
    kind = obj.get("type", "Opaque")
    for key in _SECRET_KEYS.get(kind, ()):
        if key not in data:
            causes.append(required(f"data[{key}]"))
    if kind == "kubernetes.io/basic-auth" and not ({"username", "password"} & data.keys()):
        causes += [required("data[username]"), required("data[password]")]
    if kind == "kubernetes.io/service-account-token":
        annotations = obj["metadata"].get("annotations") or {}
        if not annotations.get("kubernetes.io/service-account.name"):
            causes.append(required("metadata.annotations[kubernetes.io/service-account.name]"))
    if old is not None:
        causes += immutable(kind, old.get("type", "Opaque"), "type")
    return causes + _check_frozen(obj, old, ("data",))


def merge_string_data(secret: Obj, old: Obj | None = None) -> None:
    """`stringData` is for writing only: it goes into `data`, over what is there."""
    texts = secret.pop("stringData", None)
    if texts:
        data = secret.get("data")
        if data is None:
            data = secret["data"] = {}
        for key, value in texts.items():
            data[key] = binascii.b2a_base64(value.encode(), newline=False).decode()


def check_namespace(obj: Obj, old: Obj | None) -> list[Cause]:
    """Namespace."""
    causes: list[Cause] = []
    for index, name in enumerate((obj.get("spec") or {}).get("finalizers") or ()):
        causes += [invalid(f"spec.finalizers[{index}]", name, why) for why in qualified_name(name)]
    return causes


def check_service(obj: Obj, old: Obj | None) -> list[Cause]:
    """Service."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    kind, address = spec.get("type", "ClusterIP"), spec.get("clusterIP", "")
    causes: list[Cause] = []
    ports = spec.get("ports") or ()
    if not ports and address != "None" and kind != "ExternalName":
        causes.append(required("spec.ports"))
    if kind == "ExternalName":
        name = spec.get("externalName", "")
        if not name:
            causes.append(required("spec.externalName"))
        if address not in ("", "None"):
            causes.append(forbidden("spec.clusterIPs", "may not be set when `type` is 'ExternalName'"))
    elif kind in ("NodePort", "LoadBalancer") and address == "None":
        causes.append(invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    elif address not in ("", "None") and not is_ip(address):
        causes.append(
            invalid("spec.clusterIPs[0]", address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
        )
    causes += _check_service_ports(ports, kind)
    causes += validate_labels(spec.get("selector") or {}, "spec.selector")
    for index, text in enumerate(spec.get("externalIPs") or ()):
        if not is_ip(text):
            why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            causes.append(invalid(f"spec.externalIPs[{index}]", text, why))
    for index, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        if not is_cidr(text.strip()):
            why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            causes.append(invalid(f"spec.LoadBalancerSourceRanges[{index}]", text, why))
    return causes + _check_service_update(obj, old)


def _check_service_ports(ports: Iterable[Mapping[str, Any]], kind: str) -> list[Cause]:
    causes: list[Cause] = []
    ports = list(ports)
    names: set[str] = set()
    seen: set[tuple[Any, ...]] = set()
    for index, port in enumerate(ports):
        where = f"spec.ports[{index}]"
        name = port.get("name", "")
        if not name and len(ports) > 1:
            causes.append(required(f"{where}.name"))
        causes += named(name, f"{where}.name", dns_label, names)
        if "port" in port:
            causes += port_number(port["port"], f"{where}.port")
        if port.get("targetPort") not in (None, 0, ""):
            causes += port_or_name(port["targetPort"], f"{where}.targetPort")
        if port.get("nodePort") and kind == "ClusterIP":
            causes.append(forbidden(f"{where}.nodePort", "may not be used when `type` is 'ClusterIP'"))
        key = (port.get("protocol", "TCP"), port.get("port"))
        if key in seen:
            causes.append(duplicate(where, {"protocol": key[0], "port": key[1]}))
        seen.add(key)
    return causes


def _check_service_update(obj: Obj, old: Obj | None) -> list[Cause]:
    """A cluster address stays, as long as the service has one."""
    if old is None:
        return []
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    had = before.get("clusterIP", "")
    if had and before.get("type") != "ExternalName" and spec.get("type") != "ExternalName":
        now = spec.get("clusterIP", "")
        if now != had:
            return [invalid("spec.clusterIPs[0]", now, "may not change once set")]
    return []


def keep_cluster_address(service: Obj, old: Obj) -> None:
    """A client that replaces a service without naming its address keeps it, and its node ports."""
    spec, before = service.get("spec") or {}, old.get("spec") or {}
    if spec.get("type") == "ExternalName" or before.get("type") == "ExternalName":
        return
    for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if not spec.get(field) and before.get(field):
            spec[field] = before[field]
    if spec.get("type") in ("NodePort", "LoadBalancer") and before.get("type") in ("NodePort", "LoadBalancer"):
        had = {(port.get("protocol"), port.get("port")): port.get("nodePort") for port in before.get("ports") or ()}
        for port in spec.get("ports") or ():
            known = had.get((port.get("protocol"), port.get("port")))
            if not port.get("nodePort") and known:
                port["nodePort"] = known


def check_node(obj: Obj, old: Obj | None) -> list[Cause]:
    """Node."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(spec.get("taints") or ()):
        where = f"spec.taints[{index}]"
        causes += [invalid(f"{where}.key", taint.get("key", ""), why) for why in qualified_name(taint.get("key", ""))]
        causes += [invalid(f"{where}.value", taint["value"], why) for why in label_value(taint.get("value", ""))]
        if taint.get("effect") not in _TAINT_EFFECTS:
            causes.append(not_supported(f"{where}.effect", taint.get("effect"), _TAINT_EFFECTS))
        pair = (taint.get("key", ""), taint.get("effect", ""))
        if pair in seen:
            causes.append(duplicate(f"{where}", {"key": pair[0], "effect": pair[1]}))
        seen.add(pair)
    for index, text in enumerate(spec.get("podCIDRs") or ()):
        if not is_cidr(text):
            why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            causes.append(invalid(f"spec.podCIDRs[{index}]", text, why))
    if old is not None:
        before = old.get("spec") or {}
        for field in ("podCIDR", "podCIDRs", "providerID"):
            if before.get(field) and spec.get(field) != before[field]:
                causes.append(
                    forbidden(f"spec.{field}", "node updates may not change " + field + " except from empty to valid")
                )
    return causes


def check_claim(obj: Obj, old: Obj | None) -> list[Cause]:
    """PersistentVolumeClaim."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    causes: list[Cause] = []
    if not spec.get("accessModes"):
        causes.append(required("spec.accessModes", "at least 1 access mode is required"))
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if size is None:
        causes.append(required("spec.resources[storage]"))
    elif _amount(size) <= 0:
        causes.append(invalid("spec.resources[storage]", size, "must be greater than zero"))
    if old is not None:
        causes += _check_claim_update(spec, old.get("spec") or {})
    return causes


def _amount(value: Any) -> int:
    try:
        return quantities.parse(value).milli()
    except (ValueError, TypeError):
        return 1  # The schema has refused it.


def _check_claim_update(spec: Mapping[str, Any], before: Mapping[str, Any]) -> list[Cause]:
    free = {"resources", "volumeAttributesClassName"}
    if not before.get("volumeName"):
        free.add("volumeName")
    if before.get("storageClassName") is None:
        free.add("storageClassName")
    if any(spec.get(name) != before.get(name) for name in (spec.keys() | before.keys()) - free):
        why = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        return [forbidden("spec", why)]
    now = (spec.get("resources") or {}).get("requests", {}).get("storage")
    had = (before.get("resources") or {}).get("requests", {}).get("storage")
    if now is not None and had is not None and _amount(now) < _amount(had):
        return [forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")]
    return []


def check_volume(obj: Obj, old: Obj | None) -> list[Cause]:
    """PersistentVolume."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    causes: list[Cause] = []
    if not spec.get("accessModes"):
        causes.append(required("spec.accessModes"))
    if "storage" not in (spec.get("capacity") or {}):
        causes.append(required("spec.capacity", 'the capacity must have "storage"'))
    for name, value in (spec.get("capacity") or {}).items():
        causes += check_amount(name, value, f"spec.capacity[{name}]")
    needed = (spec.get("nodeAffinity") or {}).get("required")
    if needed is not None:
        causes += check_node_selector(needed, "spec.nodeAffinity.required")
    if "local" in spec and needed is None:
        causes.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    return causes


def check_quota(obj: Obj, old: Obj | None) -> list[Cause]:
    """ResourceQuota."""
    causes: list[Cause] = []
    for name, value in ((obj.get("spec") or {}).get("hard") or {}).items():
        causes += [invalid(f"spec.hard[{name}]", name, why) for why in qualified_name(name)]
        causes += check_amount("", value, f"spec.hard[{name}]")
    return causes


def check_limit_range(obj: Obj, old: Obj | None) -> list[Cause]:
    """LimitRange: min <= defaultRequest <= default <= max, resource by resource."""
    causes: list[Cause] = []
    kinds: set[str] = set()
    order = ("min", "defaultRequest", "default", "max")
    for index, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
        where = f"spec.limits[{index}]"
        if item.get("type") in kinds:
            causes.append(duplicate(f"{where}.type", item["type"]))
        kinds.add(item.get("type", ""))
        names = {name for field in order for name in item.get(field) or {}}
        for name in sorted(names):
            bounds = [(field, item[field][name]) for field in order if name in (item.get(field) or {})]
            for (low_field, low), (high_field, high) in itertools.pairwise(bounds):
                if _amount(low) > _amount(high):
                    why = f"{low_field} value {low} is greater than {high_field} value {high}"
                    causes.append(invalid(f"{where}.{low_field}[{name}]", low, why))
    return causes


def check_event(obj: Obj, old: Obj | None) -> list[Cause]:
    """Event of either group: it stands in the namespace of what it is about (or in `default` for no namespace)."""
    about = obj.get("involvedObject") or obj.get("regarding") or {}
    namespace = obj["metadata"].get("namespace", "")
    home = about.get("namespace", "")
    if home != namespace and not (home == "" and namespace in ("default", "kube-system")):
        field = "involvedObject.namespace" if "involvedObject" in obj else "regarding.namespace"
        return [invalid(field, home, "does not match event.namespace")]
    return []


def check_endpoints(obj: Obj, old: Obj | None) -> list[Cause]:
    """Endpoints."""
    causes: list[Cause] = []
    for index, subset in enumerate(obj.get("subsets") or ()):
        for field in ("addresses", "notReadyAddresses"):
            for place, address in enumerate(subset.get(field) or ()):
                if not is_ip(address.get("ip", "")):
                    why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
                    causes.append(invalid(f"subsets[{index}].{field}[{place}].ip", address.get("ip", ""), why))
        for place, port in enumerate(subset.get("ports") or ()):
            where = f"subsets[{index}].ports[{place}]"
            if port.get("name"):
                causes += check_port_name(port["name"], f"{where}.name") if len(port["name"]) <= 15 else []
            if "port" in port:
                causes += port_number(port["port"], f"{where}.port")
    return causes
