"""Tables of nodes and of what is told about them."""

from typing import Final

from corral.kinds import conditions
from corral.kinds.tables.printer import AGE, NAME, Printers, of_spec, printer, spec, status, text
from corral.kinds.tables.texts import NONE, UNKNOWN
from corral.kinds.types import Obj

_ROLE_PREFIX: Final = "node-role.kubernetes.io/"
_ROLE: Final = "kubernetes.io/role"


def _status(node: Obj) -> str:
    ready = conditions.get(node, "Ready")
    words = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if spec(node).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(node: Obj) -> str:
    roles: set[str] = set()
    for key, value in (node["metadata"].get("labels") or {}).items():
        role = key.removeprefix(_ROLE_PREFIX) if key.startswith(_ROLE_PREFIX) else value if key == _ROLE else ""
        if role:
            roles.add(role)
    return ",".join(sorted(roles)) or NONE


def _address(node: Obj, type_: str) -> str:
    addresses = status(node).get("addresses") or ()
    return next((address["address"] for address in addresses if address.get("type") == type_), NONE)


def _info(node: Obj, field: str, absent: str = UNKNOWN) -> str:
    return (status(node).get("nodeInfo") or {}).get(field) or absent


PRINTERS: Final[Printers] = {
    ("", "nodes"): printer(
        NAME,
        text("Status", _status),
        text("Roles", _roles),
        AGE,
        text("Version", lambda obj: _info(obj, "kubeletVersion", "")),
        text("Internal-IP", lambda obj: _address(obj, "InternalIP"), wide=True),
        text("External-IP", lambda obj: _address(obj, "ExternalIP"), wide=True),
        text("OS-Image", lambda obj: _info(obj, "osImage"), wide=True),
        text("Kernel-Version", lambda obj: _info(obj, "kernelVersion"), wide=True),
        text("Container-Runtime", lambda obj: _info(obj, "containerRuntimeVersion"), wide=True),
    ),
    ("coordination.k8s.io", "leases"): printer(NAME, text("Holder", of_spec("holderIdentity")), AGE),
    ("coordination.k8s.io", "leasecandidates"): printer(
        NAME,
        text("LeaseName", of_spec("leaseName")),
        text("BinaryVersion", of_spec("binaryVersion")),
        text("EmulationVersion", of_spec("emulationVersion")),
        AGE,
    ),
    ("node.k8s.io", "runtimeclasses"): printer(NAME, text("Handler", lambda obj: obj.get("handler", "")), AGE),
}
