"""What is said to a request for a certificate. Pure.

Two signers are served, those of agents. A new machine asks with a bootstrap token for a certificate that makes it
`system:node:NAME`; with that it asks for one for its own server, and again for each when two thirds of its life are
over. Everything is granted at once if it is what an agent asks for and no machine of the cell has the name, and denied
with the reason if not. Requests to other signers are other people's business. The conditions are those of Kubernetes'
documentation of the two signers.
"""

import base64
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from corral.base.clock import parse_rfc3339
from corral.kinds import conditions
from corral.kinds.bootstraptokens import BOOTSTRAPPERS
from corral.kinds.types import Obj
from corral.kinds.validation import dns_subdomain

CLIENT: Final = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING: Final = "kubernetes.io/kubelet-serving"
NODES: Final = "system:nodes"
NODE_PREFIX: Final = "system:node:"
_USAGES: Final = {
    CLIENT: (frozenset({"digital signature", "client auth"}), frozenset({"key encipherment"})),
    SERVING: (frozenset({"digital signature", "server auth"}), frozenset({"key encipherment"})),
}
"""What each signer demands, and what it allows besides."""
_SERVER_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1", "kubernetes"})
"""What a cell's server answers to, as it does to names below `kubernetes.`: no machine may pass for it."""
_UNREADABLE: Final = (UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
# Kubernetes' csrcleaner.
_KEPT_DECIDED: Final = timedelta(hours=1)
_KEPT_PENDING: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Grant:
    """The request is right."""


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is wrong; `message` says why and what to do."""

    message: str


@dataclass(frozen=True, slots=True)
class Machines:
    """What is known of the machines."""

    exists: Callable[[str], bool]
    """Whether the cell has a machine of this name."""
    addresses_of_others: Callable[[str], frozenset[str]]
    """The addresses of all machines but this one."""


def judge(request: Obj, machines: Machines) -> Grant | Deny | None:
    """The answer to a request that has none yet; None if it is not ours to give."""
    spec = request["spec"]
    if spec.get("signerName") not in _USAGES or is_decided(request):
        return None
    try:
        name, hosts = read(spec)
    except ValueError as error:
        return Deny(str(error))
    if spec["signerName"] == CLIENT:
        return _judge_client(spec, name, machines)
    return _judge_serving(spec, name, hosts, machines)


def read(spec: Obj) -> tuple[str, Sequence[str]]:
    """The machine that a request is for, and the names and addresses of its server. Nothing else is ever signed, not
    even if a person approves it.

    Raises:
        ValueError: it does not have the form that its signer demands; says why.
    """
    try:
        asked = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
        name, hosts = _subject(asked), _hosts(asked)
    except (ValueError, KeyError, *_UNREADABLE) as error:
        raise ValueError(f"cannot read the request: {error}") from error
    must, may = _USAGES[spec["signerName"]]
    usages = set(spec.get("usages") or ())
    if not must <= usages <= must | may:
        raise ValueError(f"usages must be {sorted(must)} and nothing else but {sorted(may)}")
    if name is None:
        raise ValueError(f"the subject must be O={NODES}, CN={NODE_PREFIX}NAME")
    if problems := dns_subdomain(name):
        raise ValueError(f"{name!r} is no name of a machine: {problems[0]}")
    if spec["signerName"] == CLIENT and hosts:
        raise ValueError("a client's certificate has no names or addresses")
    if spec["signerName"] == SERVING and not hosts:
        raise ValueError("a server's certificate needs a name or an address")
    return name, hosts


def _judge_client(spec: Obj, name: str, machines: Machines) -> Grant | Deny:
    if spec.get("username") == NODE_PREFIX + name:
        return Grant()
    if BOOTSTRAPPERS not in (spec.get("groups") or ()):
        return Deny(
            f"{spec.get('username')!r} may not ask for a certificate of {name}: only it and bootstrap tokens may"
        )
    if machines.exists(name):
        return Deny(
            f"the cell has a machine called {name}: give this one another name (--name), or, if it is gone for good, "
            f"remove that one first (corral machine remove {name})"
        )
    return Grant()


def uid_for(request: Obj) -> str:
    """The UID that a machine's certificate carries: its own, or that of the request by which it joins."""
    spec = request["spec"]
    return str(spec.get("uid") or "") if is_own(request) else str(request["metadata"]["uid"])


def is_own(request: Obj) -> bool:
    """Whether a machine renews its certificate, rather than joins."""
    name, _ = read(request["spec"])
    return bool(request["spec"].get("username") == NODE_PREFIX + name)


def _judge_serving(spec: Obj, name: str, hosts: Sequence[str], machines: Machines) -> Grant | Deny:
    if spec.get("username") != NODE_PREFIX + name:
        return Deny(f"only {NODE_PREFIX}{name} itself may ask for this certificate")
    taken = machines.addresses_of_others(name)
    for host in hosts:
        if host in _SERVER_NAMES or host.startswith("kubernetes."):
            return Deny(f"{host} is the cell's server, not a machine")
        if host in taken:
            return Deny(f"the address {host} is that of another machine")
        if not _is_address(host) and host != name:
            return Deny(f"the name {host!r} is not the machine's own, {name!r}")
    return Grant()


def is_decided(request: Obj) -> bool:
    """Whether it was approved, denied or has failed."""
    return any(conditions.get(request, word) is not None for word in ("Approved", "Denied", "Failed"))


def to_sign(request: Obj) -> bool:
    """Whether it was approved for one of our signers and has no certificate yet."""
    signed = (request.get("status") or {}).get("certificate")
    ours = request["spec"].get("signerName") in _USAGES
    refused = any(conditions.get(request, word) is not None for word in ("Denied", "Failed"))
    return ours and conditions.is_true(request, "Approved") and not signed and not refused


def forget_in(request: Obj, now: datetime) -> float:
    """Seconds until the request may be deleted: an hour after it was decided, a day after it was made."""
    born = parse_rfc3339(request["metadata"]["creationTimestamp"])
    kept = _KEPT_DECIDED if is_decided(request) else _KEPT_PENDING
    return (born + kept - now).total_seconds()


def _subject(asked: x509.CertificateSigningRequest) -> str | None:
    """The machine's name, if the subject is an agent's."""
    names = [str(attribute.value) for attribute in asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(attribute.value) for attribute in asked.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if len(list(asked.subject)) != 2 or groups != [NODES] or len(names) != 1 or not names[0].startswith(NODE_PREFIX):
        return None
    return names[0].removeprefix(NODE_PREFIX) or None


def _hosts(asked: x509.CertificateSigningRequest) -> list[str]:
    """The names and addresses asked for.

    Raises:
        ValueError: other kinds of names, too.
    """
    try:
        listed = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    hosts: list[str] = []
    for one in listed:
        if not isinstance(one, x509.DNSName | x509.IPAddress):
            raise ValueError("only DNS names and IP addresses may be asked for")
        hosts.append(str(one.value))
    return hosts


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
