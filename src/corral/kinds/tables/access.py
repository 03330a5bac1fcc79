"""Tables of role bindings and certificate requests. Roles have Kubernetes' default table."""

from typing import Final

from corral.kinds.tables.durations import human_duration
from corral.kinds.tables.printer import AGE, NAME, Printers, of_spec, printer, spec, status, text
from corral.kinds.tables.texts import NONE
from corral.kinds.types import Obj


def _role(binding: Obj) -> str:
    reference = binding.get("roleRef") or {}
    return f"{reference.get('kind', '')}/{reference.get('name', '')}"


def _subjects(binding: Obj, kind: str) -> str:
    found = []
    for subject in binding.get("subjects") or ():
        if subject.get("kind") == kind:
            name = subject.get("name", "")
            found.append(
                f"{subject['namespace']}/{name}" if subject.get("namespace") and kind == "ServiceAccount" else name
            )
    return ", ".join(found)


_BINDING: Final = printer(
    NAME,
    text("Role", _role),
    AGE,
    text("Users", lambda obj: _subjects(obj, "User"), wide=True),
    text("Groups", lambda obj: _subjects(obj, "Group"), wide=True),
    text("ServiceAccounts", lambda obj: _subjects(obj, "ServiceAccount"), wide=True),
)


def _condition(request: Obj) -> str:
    types = {condition.get("type") for condition in status(request).get("conditions") or ()}
    words = ["Denied" if "Denied" in types else "Approved" if "Approved" in types else "Pending"]
    if "Failed" in types:
        words.append("Failed")
    if status(request).get("certificate"):
        words.append("Issued")
    return ",".join(words)


def _requested_duration(request: Obj) -> str:
    seconds = spec(request).get("expirationSeconds")
    return NONE if seconds is None else human_duration(seconds)


PRINTERS: Final[Printers] = {
    ("rbac.authorization.k8s.io", "rolebindings"): _BINDING,
    ("rbac.authorization.k8s.io", "clusterrolebindings"): _BINDING,
    ("certificates.k8s.io", "certificatesigningrequests"): printer(
        NAME,
        AGE,
        text("SignerName", lambda obj: spec(obj).get("signerName") or NONE),
        text("Requestor", of_spec("username")),
        text("RequestedDuration", _requested_duration),
        text("Condition", _condition),
    ),
    ("certificates.k8s.io", "clustertrustbundles"): printer(
        NAME, text("SignerName", lambda obj: spec(obj).get("signerName") or NONE)
    ),
}
