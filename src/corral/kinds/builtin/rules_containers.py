"""One container of a pod."""

import re
from collections.abc import Mapping
from typing import Any, Final

from corral.base import quantities
from corral.kinds.builtin.rules_common import check_port_name, in_range, named, non_negative, port_number, port_or_name
from corral.kinds.builtin.rules_volumes import field_reference, local_path
from corral.kinds.schema.causes import forbidden, invalid, not_found, not_supported, required
from corral.kinds.status import Cause
from corral.kinds.validation import config_key, qualified_name

Container = Mapping[str, Any]
_ENV_NAME: Final = re.compile(r"[ -<>-~]+")
_ENV_WORDS: Final = "a valid environment variable name must consist only of printable ASCII characters other than '='"
ENV_FIELDS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
_SOURCES: Final = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_STANDARD: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_NEGATIVE: Final = "must be greater than or equal to 0"


def check_container(
    container: Container, path: str, volumes: set[str], spec: Mapping[str, Any], field: str
) -> list[Cause]:
    """Everything about a container but its name. `field` is the list it stands in."""
    causes: list[Cause] = []
    image = container.get("image", "")
    if not image:
        causes.append(required(f"{path}.image"))
    elif image != image.strip():
        causes.append(invalid(f"{path}.image", image, "must not have leading or trailing whitespace"))
    if container.get("ports"):
        causes += _check_ports(container, path)
    if container.get("env"):
        causes += _check_env(container, path)
    for index, source in enumerate(container.get("envFrom") or ()):
        causes += _check_env_from(source, f"{path}.envFrom[{index}]")
    if container.get("volumeMounts"):
        causes += _check_mounts(container, path, volumes)
    if container.get("resources"):
        causes += check_resources(container["resources"], f"{path}.resources", spec.get("resourceClaims") or ())
    causes += _check_probes(container, path, field)
    if container.get("lifecycle"):
        causes += _check_lifecycle(container["lifecycle"], f"{path}.lifecycle")
    if container.get("securityContext"):
        causes += _check_security(container["securityContext"], f"{path}.securityContext")
    policy = container.get("restartPolicy")
    if policy and policy not in ("Always", "Never", "OnFailure"):
        causes.append(not_supported(f"{path}.restartPolicy", policy, ("Always", "Never", "OnFailure")))
    return causes


def _check_ports(container: Container, path: str) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    for index, port in enumerate(container["ports"]):
        where = f"{path}.ports[{index}]"
        name = port.get("name")
        if name:
            wrong = check_port_name(name, f"{where}.name")
            causes += wrong or named(name, f"{where}.name", lambda _: [], names)
        if "containerPort" in port:
            causes += port_number(port["containerPort"], f"{where}.containerPort")
        if port.get("hostPort"):
            causes += port_number(port["hostPort"], f"{where}.hostPort")
    return causes


def _check_env(container: Container, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, variable in enumerate(container["env"]):
        where = f"{path}.env[{index}]"
        name = variable.get("name", "")
        if name and _ENV_NAME.fullmatch(name) is None:
            causes.append(invalid(f"{where}.name", name, _ENV_WORDS))
        source = variable.get("valueFrom")
        if source is not None:
            causes += _check_env_source(variable, source, f"{where}.valueFrom")
    return causes


def _check_env_source(variable: Mapping[str, Any], source: Mapping[str, Any], path: str) -> list[Cause]:
    kinds = [kind for kind in _SOURCES if kind in source]
    if not kinds:
        words = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        return [invalid(path, "", words)]
    if len(kinds) > 1:
        return [invalid(path, "", "may not have more than one field specified at a time")]
    if variable.get("value"):
        return [invalid(path, "", "may not be specified when `value` is not empty")]
    reference = source[kinds[0]]
    where = f"{path}.{kinds[0]}"
    if kinds[0] == "fieldRef":
        return field_reference(reference, ENV_FIELDS, where)
    if kinds[0] in ("configMapKeyRef", "secretKeyRef"):
        causes = [] if reference.get("name") else [required(f"{where}.name")]
        key = reference.get("key", "")
        return causes + [invalid(f"{where}.key", key, why) for why in (config_key(key) if key else ())]
    return []


def _check_env_from(source: Mapping[str, Any], path: str) -> list[Cause]:
    kinds = [kind for kind in ("configMapRef", "secretRef") if kind in source]
    if not kinds:
        return [invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")]
    if len(kinds) > 1:
        return [invalid(path, "", "may not have more than one field specified at a time")]
    return [] if source[kinds[0]].get("name") else [required(f"{path}.{kinds[0]}.name")]


def _check_mounts(container: Container, path: str, volumes: set[str]) -> list[Cause]:
    causes: list[Cause] = []
    places: set[str] = set()
    for index, mount in enumerate(container["volumeMounts"]):
        where = f"{path}.volumeMounts[{index}]"
        name, place = mount.get("name", ""), mount.get("mountPath", "")
        if name and name not in volumes:
            causes.append(not_found(f"{where}.name", name))
        if place in places:
            causes.append(invalid(f"{where}.mountPath", place, "must be unique"))
        places.add(place)
        if mount.get("subPath"):
            causes += local_path(mount["subPath"], f"{where}.subPath")
        if mount.get("subPathExpr"):
            if mount.get("subPath"):
                causes.append(
                    invalid(
                        f"{where}.subPathExpr", mount["subPathExpr"], "subPathExpr and subPath are mutually exclusive"
                    )
                )
            causes += local_path(mount["subPathExpr"], f"{where}.subPathExpr")
        privileged = (container.get("securityContext") or {}).get("privileged")
        if mount.get("mountPropagation") == "Bidirectional" and not privileged:
            why = "Bidirectional mount propagation is available only to privileged containers"
            causes.append(forbidden(f"{where}.mountPropagation", why))
    return causes


def _amount(value: Any) -> quantities.Quantity | None:
    try:
        return quantities.parse(value)
    except (ValueError, TypeError):
        return None


def resource_name(name: str, path: str) -> list[Cause]:
    """A resource that a container can ask for: a standard one or one with a domain."""
    causes = [invalid(path, name, why) for why in qualified_name(name)]
    if not causes and "/" not in name and name not in _STANDARD and not name.startswith("hugepages-"):
        why = "must be a standard resource type or fully qualified"
        causes += [invalid(path, name, why), invalid(path, name, "must be a standard resource for containers")]
    return causes


def check_resources(resources: Mapping[str, Any], path: str, claims: Any = ()) -> list[Cause]:
    """Requests and limits: known resources, not negative, requests within limits."""
    causes: list[Cause] = []
    limits = resources.get("limits") or {}
    requests = resources.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, value in amounts.items():
            where = f"{path}.{field}"
            causes += resource_name(name, where)
            causes += check_amount(name, value, f"{where}[{name}]")
    for name, value in requests.items():
        causes += _check_request(name, value, limits.get(name), path)
    known = {claim.get("name") for claim in claims}
    for index, claim in enumerate(resources.get("claims") or ()):
        if claim.get("name") and claim["name"] not in known:
            causes.append(not_found(f"{path}.claims[{index}]", claim["name"]))
    return causes


def check_amount(name: str, value: Any, path: str) -> list[Cause]:
    """A quantity that is not negative, and whole where the resource comes in pieces."""
    amount = _amount(value)
    if amount is None:
        return []  # The schema has refused it.
    if amount < quantities.parse(0):
        return [invalid(path, str(value), _NEGATIVE)]
    if "/" in name and amount.milli() % 1000:
        return [invalid(path, str(value), "must be an integer")]
    return []


def _check_request(name: str, value: Any, limit: Any, path: str) -> list[Cause]:
    request, most = _amount(value), _amount(limit) if limit is not None else None
    where = f"{path}.requests"
    pieces = "/" in name or name.startswith("hugepages-")
    if request is None:
        return []
    if most is None:
        if limit is None and pieces:
            return [required(f"{path}.limits", "Limit must be set for non overcommitable resources")]
        return []
    if pieces and request != most:
        return [invalid(where, str(value), f"must be equal to {name} limit of {limit}")]
    if request > most:
        return [invalid(where, str(value), f"must be less than or equal to {name} limit of {limit}")]
    return []


def _check_probes(container: Container, path: str, field: str) -> list[Cause]:
    causes: list[Cause] = []
    for name in _PROBES:
        probe = container.get(name)
        if probe is None:
            continue
        where = f"{path}.{name}"
        if field == "ephemeralContainers":
            causes.append(forbidden(where, "cannot be set for an Ephemeral Container"))
        elif field == "initContainers" and container.get("restartPolicy") != "Always":
            causes.append(forbidden(where, "may not be set for init containers without restartPolicy=Always"))
        causes += _check_handler({key: probe[key] for key in probe if key in _HANDLERS}, where)
        counts = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
        causes += non_negative(probe, where, *counts)
        if name != "readinessProbe" and probe.get("successThreshold", 1) != 1:
            causes.append(invalid(f"{where}.successThreshold", probe["successThreshold"], "must be 1"))
        grace = probe.get("terminationGracePeriodSeconds")
        if grace is not None and name == "readinessProbe":
            why = "must not be set for readinessProbes"
            causes.append(invalid(f"{where}.terminationGracePeriodSeconds", grace, why))
        elif grace is not None and grace <= 0:
            causes.append(invalid(f"{where}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    return causes


def _check_handler(handler: Mapping[str, Any], path: str) -> list[Cause]:
    if not handler:
        return [required(path, "must specify a handler type")]
    causes = [forbidden(f"{path}.{kind}", "may not specify more than 1 handler type") for kind in list(handler)[1:]]
    if "exec" in handler and not handler["exec"].get("command"):
        causes.append(required(f"{path}.exec.command"))
    for kind in ("httpGet", "tcpSocket"):
        if kind in handler and "port" in handler[kind]:
            causes += port_or_name(handler[kind]["port"], f"{path}.{kind}.port")
    if "grpc" in handler and "port" in handler["grpc"]:
        causes += port_number(handler["grpc"]["port"], f"{path}.grpc.port")
    return causes


def _check_lifecycle(lifecycle: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for name in ("postStart", "preStop"):
        if lifecycle.get(name) is not None:
            causes += _check_handler(lifecycle[name], f"{path}.{name}")
    return causes


def _check_security(security: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for field in ("runAsUser", "runAsGroup"):
        if security.get(field) is not None:
            causes += in_range(security[field], 0, 2**31 - 1, f"{path}.{field}")
    if security.get("allowPrivilegeEscalation") is False:
        why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        if security.get("privileged"):
            causes.append(invalid(path, dict(security), why))
        elif "CAP_SYS_ADMIN" in ((security.get("capabilities") or {}).get("add") or ()):
            why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            causes.append(invalid(path, dict(security), why))
    return causes
