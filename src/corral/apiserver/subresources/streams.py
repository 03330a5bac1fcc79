"""`log`, `exec`, `attach`, `portforward` and `proxy`: found here, answered by the agent on the machine.

The paths and parameters that agents take are the kubelet's, which differ from the API's.
"""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

import msgspec

from corral.apiserver.core import Core
from corral.apiserver.routing import Target
from corral.kinds.resources import NODES, PODS
from corral.kinds.status import bad_request, not_found, path_not_found, unavailable
from corral.kinds.types import Obj

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
_TRUE = frozenset({"1", "true", "True", "t", ""})
_NUMBER = re.compile(r"\d{1,18}")
_FLAGS = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))
_LOG_FLAGS = ("follow", "previous", "timestamps")
_LOG_NUMBERS = ("sinceSeconds", "tailLines", "limitBytes")

Pairs = Sequence[tuple[str, str]]


class Destination(msgspec.Struct, frozen=True):
    """Where on which agent a stream goes; `host` is empty if the pod has no machine yet."""

    host: str
    port: int
    path: str
    query: str


def destination(core: Core, target: Target, pairs: Pairs) -> Destination:
    """The agent's address for a stream; `pairs` are the query parameters.

    Raises:
        StatusError: 400, 404, 503.
    """
    if target.plural == NODES.plural and target.subresource == "proxy":
        node = core.find(NODES, "", target.name)
        if node is None:
            raise not_found("", NODES.plural, target.name)
        host, port = address_of(node)
        return Destination(host, port, quote(target.rest or "/"), urlencode(pairs))
    if target.plural != PODS.plural or target.subresource == "proxy":
        raise path_not_found()
    pod = core.find(PODS, target.namespace, target.name)
    if pod is None:
        raise not_found("", PODS.plural, target.name)
    path, query = _for_agent(pod, target, pairs)
    name = (pod.get("spec") or {}).get("nodeName")
    if not name:
        if target.subresource == "log":
            return Destination("", 0, "", "")
        raise bad_request(f"pod {target.name} does not have a host assigned")
    node = core.find(NODES, "", name)
    if node is None:
        raise unavailable(f"cannot reach pod {target.name}: its node {name} is not registered")
    host, port = address_of(node)
    return Destination(host, port, path, query)


def address_of(node: Obj) -> tuple[str, int]:
    """Where a machine's agent listens. Raises StatusError 503 if the node does not say."""
    status = node.get("status") or {}
    addresses = {entry.get("type"): entry.get("address") for entry in status.get("addresses") or ()}
    host = addresses.get("InternalIP") or addresses.get("Hostname")
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port")
    if not host or not port:
        raise unavailable(
            f"cannot reach node {node['metadata']['name']}: its status has no address and port of the agent"
        )
    return host, port


def _for_agent(pod: Obj, target: Target, pairs: Pairs) -> tuple[str, str]:
    namespace, name = quote(target.namespace, safe=""), quote(target.name, safe="")
    query = dict(pairs)
    if target.subresource == "portforward":
        ports = [("port", port) for key, value in pairs if key == "ports" for port in value.split(",")]
        return f"/portForward/{namespace}/{name}", urlencode(ports)
    container = quote(container_of(pod, query.get("container", "")), safe="")
    if target.subresource == "log":
        return f"/containerLogs/{namespace}/{name}/{container}", urlencode(_log_query(query))
    wanted = [(theirs, "1") for ours, theirs in _FLAGS if query.get(ours, "false") in _TRUE]
    if target.subresource == "exec":
        command = [(key, value) for key, value in pairs if key == "command"]
        if not command:
            raise bad_request("you must specify at least one command for the container")
        wanted += command
    if not any(key in ("input", "output", "error") for key, _ in wanted):
        raise bad_request("you must specify at least one of stdin, stdout, stderr")
    return f"/{target.subresource}/{namespace}/{name}/{container}", urlencode(wanted)


def _log_query(query: Mapping[str, str]) -> list[tuple[str, str]]:
    pairs = [(flag, "true") for flag in _LOG_FLAGS if flag in query and query[flag] in _TRUE]
    for name in _LOG_NUMBERS:
        value = query.get(name)
        if value is not None:
            if not _NUMBER.fullmatch(value):
                raise bad_request(f"{name}: Invalid value: {value!r}: must be a whole number that is not negative")
            pairs.append((name, value))
    for name in ("sinceTime", "stream"):
        if query.get(name):
            pairs.append((name, query[name]))
    if "sinceSeconds" in query and query.get("sinceTime"):
        raise bad_request("at most one of sinceTime or sinceSeconds may be specified")
    return pairs


def container_of(pod: Obj, asked: str) -> str:
    """The container that is meant: the one named, the default one, or the only one.

    Raises:
        StatusError: 400, naming the choices.
    """
    spec, name = pod.get("spec") or {}, pod["metadata"]["name"]
    groups = {
        field: [c["name"] for c in spec.get(field) or ()]
        for field in ("containers", "initContainers", "ephemeralContainers")
    }
    if asked:
        if not any(asked in names for names in groups.values()):
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    default = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    if default in groups["containers"]:
        return str(default)
    if len(groups["containers"]) == 1:
        return str(groups["containers"][0])
    choices = f"choose one of: [{' '.join(groups['containers'])}]"
    if groups["initContainers"]:
        choices += f" or one of the init containers: [{' '.join(groups['initContainers'])}]"
    raise bad_request(f"a container name must be specified for pod {name}, {choices}")
