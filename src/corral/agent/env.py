"""A container's environment, as Kubernetes builds it. Pure: what it refers to is fetched before and passed in.

Order: `envFrom` in order, then `env` in order, a later one of the same name winning; `$(NAME)` in a value means a
variable defined before it or one of the services' variables, `$$` is a dollar sign, an unknown reference stays.
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from corral.base.errors import CorralError
from corral.base.quantities import parse
from corral.kinds.types import Obj

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*\Z")
_SUBSCRIPT = re.compile(r"metadata\.(annotations|labels)\['(.+)'\]\Z")


class ConfigError(CorralError):
    """The container cannot be configured (`CreateContainerConfigError`): something that it refers to is not there."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a pod's fields and environment may refer to."""

    pod_addresses: tuple[str, ...] = ()
    host_addresses: tuple[str, ...] = ()
    node_name: str = ""
    allocatable: Mapping[str, int] = field(default_factory=dict)
    """The machine's, cpu in thousandths and everything else in whole units; the default of limits."""
    service_host: str = ""
    service_port: int = 0
    """Where the API server is, for KUBERNETES_SERVICE_HOST and _PORT; empty host: not told."""
    config_maps: Mapping[str, Obj | None] = field(default_factory=dict)
    """By name, of the pod's namespace; None: does not exist."""
    secrets: Mapping[str, Obj | None] = field(default_factory=dict)


def environment(pod: Obj, container: Obj, around: Surroundings) -> list[tuple[str, str]]:
    """All variables that the agent sets for `container` (the image's own come below them).

    Raises:
        ConfigError: a ConfigMap, Secret, key or field is missing and not optional.
    """
    services = _services(around)
    variables: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        variables.update(_all_of(source, around))
    for entry in container.get("env") or ():
        value = _value(pod, container, entry, around, {**services, **variables})
        if value is not None:
            variables[entry["name"]] = value
    return list({**services, **variables}.items())


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` with `$(NAME)` replaced where NAME is known."""

    def replaced(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return variables.get(match.group(1), match.group(0))

    return _REFERENCE.sub(replaced, text)


def references(pod: Obj, container: Obj) -> tuple[set[str], set[str]]:
    """Names of the ConfigMaps and Secrets that the environment of `container` refers to."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    for source in container.get("envFrom") or ():
        _note(source.get("configMapRef"), config_maps)
        _note(source.get("secretRef"), secrets)
    for entry in container.get("env") or ():
        source = entry.get("valueFrom") or {}
        _note(source.get("configMapKeyRef"), config_maps)
        _note(source.get("secretKeyRef"), secrets)
    return config_maps, secrets


def _note(reference: Obj | None, names: set[str]) -> None:
    if reference and reference.get("name"):
        names.add(reference["name"])


def _services(around: Surroundings) -> dict[str, str]:
    if not around.service_host:
        return {}
    host, port = around.service_host, str(around.service_port)
    address = f"tcp://{f'[{host}]' if ':' in host else host}:{port}"
    return {
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
        "KUBERNETES_SERVICE_PORT_HTTPS": port,
        "KUBERNETES_PORT": address,
        f"KUBERNETES_PORT_{port}_TCP": address,
        f"KUBERNETES_PORT_{port}_TCP_PROTO": "tcp",
        f"KUBERNETES_PORT_{port}_TCP_PORT": port,
        f"KUBERNETES_PORT_{port}_TCP_ADDR": host,
    }


def _all_of(source: Obj, around: Surroundings) -> dict[str, str]:
    """The variables of one `envFrom` entry; keys that are no variable names are left out, as Kubernetes does."""
    prefix = source.get("prefix") or ""
    found: dict[str, str] = {}
    for field_name, kind, objects in (
        ("configMapRef", "configmap", around.config_maps),
        ("secretRef", "secret", around.secrets),
    ):
        reference = source.get(field_name)
        if not reference:
            continue
        obj = objects.get(reference.get("name", ""))
        if obj is None:
            if reference.get("optional"):
                continue
            raise ConfigError(f'{kind} "{reference.get("name", "")}" not found')
        for key, value in _data(obj, kind).items():
            if _NAME.match(prefix + key):
                found[prefix + key] = value
    return found


def _data(obj: Obj, kind: str) -> dict[str, str]:
    data = obj.get("data") or {}
    if kind == "configmap":
        return dict(data)
    return {key: base64.b64decode(value or "").decode(errors="surrogateescape") for key, value in data.items()}


def _value(pod: Obj, container: Obj, entry: Obj, around: Surroundings, known: Mapping[str, str]) -> str | None:
    source = entry.get("valueFrom")
    if not source:
        return expand(entry.get("value") or "", known)
    if source.get("fieldRef"):
        return field_value(pod, source["fieldRef"].get("fieldPath", ""), around)
    if source.get("resourceFieldRef"):
        return resource_value(pod, source["resourceFieldRef"], around, container)
    if source.get("configMapKeyRef"):
        return _key(source["configMapKeyRef"], "configmap", "ConfigMap", around.config_maps, pod)
    if source.get("secretKeyRef"):
        return _key(source["secretKeyRef"], "secret", "Secret", around.secrets, pod)
    raise ConfigError(f"cannot set variable {entry.get('name')!r}: its valueFrom names no source that Corral knows")


def _key(reference: Obj, kind: str, shown: str, objects: Mapping[str, Obj | None], pod: Obj) -> str | None:
    name, key = reference.get("name", ""), reference.get("key", "")
    obj = objects.get(name)
    if obj is None:
        if reference.get("optional"):
            return None
        raise ConfigError(f'{kind} "{name}" not found')
    data = _data(obj, kind)
    if key not in data:
        if reference.get("optional"):
            return None
        raise ConfigError(f"couldn't find key {key} in {shown} {pod['metadata'].get('namespace', '')}/{name}")
    return data[key]


_FIELDS: Mapping[str, Callable[[Obj, Surroundings], str]] = {
    "metadata.name": lambda pod, around: str(pod["metadata"].get("name", "")),
    "metadata.namespace": lambda pod, around: str(pod["metadata"].get("namespace", "")),
    "metadata.uid": lambda pod, around: str(pod["metadata"].get("uid", "")),
    "metadata.labels": lambda pod, around: _map_text(pod["metadata"].get("labels")),
    "metadata.annotations": lambda pod, around: _map_text(pod["metadata"].get("annotations")),
    "spec.nodeName": lambda pod, around: around.node_name,
    "spec.serviceAccountName": lambda pod, around: str(pod["spec"].get("serviceAccountName", "")),
    "status.hostIP": lambda pod, around: around.host_addresses[0] if around.host_addresses else "",
    "status.hostIPs": lambda pod, around: ",".join(around.host_addresses),
    "status.podIP": lambda pod, around: around.pod_addresses[0] if around.pod_addresses else "",
    "status.podIPs": lambda pod, around: ",".join(around.pod_addresses),
}


def field_value(pod: Obj, path: str, around: Surroundings) -> str:
    """What a `fieldRef` means.

    Raises:
        ConfigError: the downward API has no such field.
    """
    if path in _FIELDS:
        return _FIELDS[path](pod, around)
    match = _SUBSCRIPT.match(path)
    if match:
        return str((pod["metadata"].get(match.group(1)) or {}).get(match.group(2), ""))
    raise ConfigError(f"unsupported fieldPath: {path}", f"use one of {', '.join(sorted(_FIELDS))}")


def _map_text(values: Mapping[str, str] | None) -> str:
    """Labels or annotations as a downward API file shows them: sorted `key="value"` lines, escaped."""
    return "\n".join(f"{key}={_quoted(value)}" for key, value in sorted((values or {}).items()))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + escaped.replace("\r", "\\r") + '"'


def resource_value(pod: Obj, reference: Obj, around: Surroundings, container: Obj | None = None) -> str:
    """What a `resourceFieldRef` means, in units of its divisor, rounded up. A missing limit is the machine's.

    Raises:
        ConfigError: there is no such container or resource.
    """
    wanted = reference.get("containerName")
    if wanted:
        everyone: list[Any] = [*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())]
        container = next((found for found in everyone if found["name"] == wanted), None)
    if container is None:
        raise ConfigError(f'cannot find container "{wanted or ""}" that a resourceFieldRef names')
    kind, _, resource = str(reference.get("resource", "")).partition(".")
    if kind not in ("limits", "requests") or not resource:
        raise ConfigError(f"unsupported container resource: {reference.get('resource')}", "use limits.X or requests.X")
    text = ((container.get("resources") or {}).get(kind) or {}).get(resource)
    if text is not None:
        quantity = parse(text)
        thousandths = quantity.milli()
    elif kind == "limits" and resource in around.allocatable:
        amount = around.allocatable[resource]
        thousandths = amount if resource == "cpu" else amount * 1000
    else:
        thousandths = 0
    divisor = reference.get("divisor") or "1"
    per = parse(divisor).milli() or 1000
    return str(-(-thousandths // per))
