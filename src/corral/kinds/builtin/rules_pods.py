"""What is wrong with a pod's spec, or with the template of one (Kubernetes `pkg/apis/core/validation`)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from corral.kinds.builtin.rules_affinity import check_affinity, check_spread, check_tolerations
from corral.kinds.builtin.rules_common import in_range, is_ip, named, non_negative
from corral.kinds.builtin.rules_containers import check_container
from corral.kinds.builtin.rules_groups import check_group_reference
from corral.kinds.builtin.rules_volumes import check_volumes
from corral.kinds.schema.causes import duplicate, forbidden, invalid, required
from corral.kinds.status import Cause
from corral.kinds.types import Obj
from corral.kinds.validation import dns_label, dns_subdomain, qualified_name, validate_annotations, validate_labels

MAX_INT32: Final = 2**31 - 1
_HOST_PORT_MATCH: Final = "must match `containerPort` when `hostNetwork` is true"


def check_pod_spec(spec: Mapping[str, Any], path: str, claims: Collection[str] = ()) -> list[Cause]:
    """Everything about a pod's spec that its schema cannot say; `claims` are volumes that come from elsewhere."""
    causes, volumes = check_volumes(spec.get("volumes") or (), f"{path}.volumes")
    volumes.update(claims)
    containers = spec.get("containers") or []
    if not containers:
        causes.append(required(f"{path}.containers"))
    names: set[str] = set()
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            where = f"{path}.{field}[{index}]"
            causes += named(container.get("name", ""), f"{where}.name", dns_label, names)
            causes += check_container(container, where, volumes, spec, field)
    causes += _check_host_ports(spec, path)
    causes += _check_times(spec, path)
    causes += _check_names(spec, path)
    causes += _check_dns(spec, path)
    causes += _check_gates(spec, path)
    causes += check_group_reference(spec.get("schedulingGroup"), f"{path}.schedulingGroup")
    if spec.get("nodeSelector"):
        causes += validate_labels(spec["nodeSelector"], f"{path}.nodeSelector")
    if spec.get("tolerations"):
        causes += check_tolerations(spec["tolerations"], f"{path}.tolerations")
    if spec.get("affinity"):
        causes += check_affinity(spec["affinity"], f"{path}.affinity")
    if spec.get("topologySpreadConstraints"):
        causes += check_spread(spec["topologySpreadConstraints"], f"{path}.topologySpreadConstraints")
    if spec.get("securityContext"):
        causes += _check_security(spec["securityContext"], spec, f"{path}.securityContext")
    return causes


def check_template(template: Mapping[str, Any] | None, path: str, claims: Collection[str] = ()) -> list[Cause]:
    """A pod template: its labels, annotations and spec."""
    if template is None:
        return [required(path)]
    metadata = template.get("metadata") or {}
    causes = validate_labels(metadata.get("labels") or {}, f"{path}.labels")
    causes += validate_annotations(metadata.get("annotations") or {}, f"{path}.annotations")
    spec: Obj = template.get("spec") or {}
    causes += check_pod_spec(spec, f"{path}.spec", claims)
    if spec.get("ephemeralContainers"):
        causes.append(forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"))
    return causes


def _ports(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            for place, port in enumerate(container.get("ports") or ()):
                yield f"{field}[{index}].ports[{place}]", port


def _check_host_ports(spec: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    taken: set[tuple[str, str, int]] = set()
    on_host = spec.get("hostNetwork")
    for where, port in _ports(spec):
        host = port.get("hostPort")
        if not host:
            continue
        if on_host and host != port.get("containerPort"):
            causes.append(invalid(f"{path}.{where}.hostPort", host, _HOST_PORT_MATCH))
        key = (port.get("protocol", "TCP"), port.get("hostIP", ""), host)
        if key in taken and where.startswith("containers"):
            causes.append(duplicate(f"{path}.{where}.hostPort", "/".join(str(part) for part in key)))
        taken.add(key)
    return causes


def _check_times(spec: Mapping[str, Any], path: str) -> list[Cause]:
    causes = non_negative(spec, path, "terminationGracePeriodSeconds")
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None:
        causes += in_range(deadline, 1, MAX_INT32, f"{path}.activeDeadlineSeconds")
    return causes


def _check_names(spec: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    rules = (
        ("nodeName", dns_subdomain),
        ("serviceAccountName", dns_subdomain),
        ("priorityClassName", dns_subdomain),
        ("runtimeClassName", dns_subdomain),
        ("hostname", dns_label),
        ("subdomain", dns_label),
        ("schedulerName", dns_subdomain),
    )
    for field, rule in rules:
        value = spec.get(field)
        if value:
            causes += [invalid(f"{path}.{field}", value, why) for why in rule(value)]
    for index, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            causes.append(required(f"{path}.imagePullSecrets[{index}].name"))
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        where = f"{path}.readinessGates[{index}].conditionType"
        causes += [
            invalid(where, gate.get("conditionType"), why) for why in qualified_name(gate.get("conditionType", ""))
        ]
    return causes


def _check_dns(spec: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    config = spec.get("dnsConfig") or {}
    servers: Sequence[str] = config.get("nameservers") or ()
    where = f"{path}.dnsConfig.nameservers"
    if spec.get("dnsPolicy") == "None" and not servers:
        why = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        causes.append(required(where, why))
    if len(servers) > 3:
        causes.append(invalid(where, list(servers), "must not have more than 3 nameservers"))
    for index, server in enumerate(servers):
        if not is_ip(server):
            causes.append(
                invalid(f"{where}[{index}]", server, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
            )
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        where = f"{path}.hostAliases[{index}]"
        if not is_ip(alias.get("ip", "")):
            why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            causes.append(invalid(f"{where}.ip", alias.get("ip", ""), why))
        for name in alias.get("hostnames") or ():
            causes += [invalid(f"{where}.hostnames", name, why) for why in dns_subdomain(name)]
    return causes


def _check_gates(spec: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        where = f"{path}.schedulingGates[{index}]"
        name = gate.get("name", "")
        causes += [invalid(where, name, why) for why in qualified_name(name)]
        if name in seen:
            causes.append(duplicate(where, name))
        seen.add(name)
    return causes


def _check_security(security: Mapping[str, Any], spec: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        if security.get(field) is not None:
            causes += in_range(security[field], 0, MAX_INT32, f"{path}.{field}")
    for index, group in enumerate(security.get("supplementalGroups") or ()):
        causes += in_range(group, 0, MAX_INT32, f"{path}.supplementalGroups[{index}]")
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        causes.append(
            invalid(f"{path}.shareProcessNamespace", True, "ShareProcessNamespace and HostPID cannot both be enabled")
        )
    seen: set[str] = set()
    for index, sysctl in enumerate(security.get("sysctls") or ()):
        where = f"{path}.sysctls[{index}].name"
        name = sysctl.get("name", "")
        if name in seen:
            causes.append(duplicate(where, name))
        seen.add(name)
    return causes
