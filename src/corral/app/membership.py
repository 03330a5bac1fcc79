"""A machine's place in a cell: where the servers are, whom to trust, and certificates of its own that renew themselves.

A new machine trusts nobody yet. It reads the cell's authority from the server it was told of, without verifying
anything, and goes on only if the authority's hash is the one that the person gave it: from then on every connection is
verified. With the token it asks for a certificate as `system:node:NAME`; with that it asks for everything else.
"""

import asyncio
import base64
import json
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from corral.apiserver.auth import certificates
from corral.apiserver.auth.files import make_private_directory, write_private
from corral.apiserver.auth.pki import client_context, server_context
from corral.app.config import MEMBER_FILE, machine_address
from corral.app.joinchecks import examine, refusal
from corral.base.checks import Check
from corral.base.clock import Clock
from corral.base.errors import CorralError
from corral.base.ids import new_uid
from corral.client.client import Client
from corral.client.failover import FailoverTransport
from corral.client.http import HttpTransport
from corral.kinds import conditions
from corral.kinds.resources import CERTIFICATE_SIGNING_REQUESTS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

_log = logging.getLogger(__name__)

AGENT_PORT: Final = 10250
"""The kubelet's."""
CLIENT_SIGNER: Final = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER: Final = "kubernetes.io/kubelet-serving"
_GROUPS: Final = ("system:nodes",)
_ACKNOWLEDGE_SECONDS: Final = 3.0
_CONNECT_SECONDS: Final = 3.0
_PATIENT_SECONDS: Final = 30.0
"""For a connection to the only server: there is no other one to go to, and it has the same work with the next try."""
_ANSWER_SECONDS: Final = 60.0
_CONNECTIONS: Final = 4
"""Calls of one machine that are under way at once: a thousand machines may have much to say at the same time, and each
connection costs both sides a TLS handshake."""
_LOOK_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Membership:
    """What a joined machine remembers."""

    server: str
    name: str
    labels: dict[str, str]
    taints: list[Obj]
    capacity: dict[str, int]
    address: str
    """By which the servers reach the machine; that of its default route if empty."""
    port: int = AGENT_PORT
    """Where the agent listens; 0 is any free port."""
    servers: tuple[str, ...] = ()
    """All servers of the cell, as last heard of it; only the one that it joined by, if empty."""
    removed: bool = False
    """Whether the cell has removed the machine."""

    @staticmethod
    def load(directory: Path) -> "Membership | None":
        """What `save` wrote; None if the machine has not joined.

        Raises:
            CorralError: the file cannot be read.
        """
        path = directory / MEMBER_FILE
        try:
            found = json.loads(path.read_text())
            return Membership(**{**found, "servers": tuple(found.get("servers", ()))})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CorralError(f"cannot read {path}: {error}", f"remove it and join again: rm {path}") from error

    def save(self, directory: Path) -> None:
        """Write it, all or nothing."""
        write_private(directory / MEMBER_FILE, json.dumps(asdict(self), indent=2).encode())


async def enrol(
    directory: Path,
    wanted: Membership,
    token: str,
    pin: str,
    clock: Clock,
    *,
    here: Sequence[Check] = (),
    tell: Callable[[Check], None] = lambda check: None,
) -> None:
    """Join: see whether all is well, `here` too; get the first certificate with `token`; remember the cell.

    Args:
        pin: hash of the cell's authority.
        tell: hears of everything that was looked at in the cell.

    Raises:
        CorralError: all that is wrong or refused, and what to do.
    """
    findings = await examine(wanted.server, wanted.name, pin, token, clock)
    for check in findings.checks:
        tell(check)
    refused = refusal(f"cannot join {wanted.server}", [*here, *findings.checks])
    if refused is not None:
        raise refused
    await Identity(directory / "pki", wanted, clock).introduce(findings.authority, token)
    wanted.save(directory)


class Identity:
    """The certificates of a machine in its data directory."""

    def __init__(self, directory: Path, membership: Membership, clock: Clock) -> None:
        self._directory = directory
        self._membership = membership
        self.address = membership.address or machine_address()
        self._clock = clock
        self._client_context: ssl.SSLContext | None = None
        self._server_context: ssl.SSLContext | None = None

    @property
    def authority(self) -> bytes:
        """The cell's authority as PEM."""
        return (self._directory / "ca.crt").read_bytes()

    @property
    def fingerprint(self) -> str:
        """The hash of the cell's authority, as `corral token create` prints it."""
        return certificates.fingerprint(x509.load_pem_x509_certificate(self.authority))

    @property
    def introduced(self) -> bool:
        """Whether the machine has a certificate, not over yet, of the cell whose authority it knows."""
        certificate = self._read("client")
        return certificate is not None and self._clock.now() < certificate.not_valid_after_utc

    async def introduce(self, authority: bytes, token: str) -> None:
        """Get the first certificate with a token.

        Raises:
            CorralError: the token or the name is refused.
        """
        make_private_directory(self._directory)
        transport = HttpTransport(self._membership.server, client_context(authority), token)
        try:
            pair = await self._certify(Client(transport, field_manager="corral-join"), CLIENT_SIGNER, ())
            # Not before: a machine whose request is refused stays in the cell it was in.
            write_private(self._directory / "ca.crt", authority)
            self._keep("client", pair)
        except StatusError as error:
            raise _refused(error) from error
        finally:
            await transport.close()

    def require(self) -> None:
        """See whether the machine can show who it is.

        Raises:
            CorralError: its certificate is missing, another cell's, or over.
        """
        if not self.introduced:
            name = self._membership.name
            raise CorralError(
                f"cannot start as {name}: {self._directory}/client.pem is missing, another cell's, or over (or this "
                "machine's clock is wrong)",
                f"corral machine remove {name}, and join again with a new line: corral token create",
            )

    def client_tls(self) -> ssl.SSLContext:
        """TLS towards the servers, as this machine."""
        if self._client_context is None:
            self._client_context = client_context(self.authority)
            self._load("client", self._client_context)
        return self._client_context

    def transport(self) -> FailoverTransport:
        """A transport as this machine, to whichever server answers."""
        tls = self.client_tls()
        servers = self._membership.servers or (self._membership.server,)

        def connect(server: str) -> HttpTransport:
            return HttpTransport(
                server,
                tls,
                connect_seconds=_PATIENT_SECONDS if transport.servers == (server,) else _CONNECT_SECONDS,
                acknowledge_seconds=_ACKNOWLEDGE_SECONDS,
                connections=_CONNECTIONS,
            )

        transport = FailoverTransport(servers, connect)
        return transport

    async def serving(self, client: Client) -> ssl.SSLContext:
        """TLS of this machine's own server, with a certificate of the cell.

        Raises:
            CorralError: the request is refused.
        """
        hosts = (self._membership.name, self.address)
        if not self._is_good("serving", hosts):
            self._keep("serving", await self._certify(client, SERVING_SIGNER, hosts))
        self._server_context = server_context(self.authority, require_client=True)
        self._load("serving", self._server_context)
        return self._server_context

    async def keep(self, client: Client) -> None:
        """Renew what is due, for ever; connections that stand go on, new ones take the new certificate."""
        wanted = (
            ("client", CLIENT_SIGNER, ()),
            ("serving", SERVING_SIGNER, (self._membership.name, self.address)),
        )
        while True:
            for stem, signer, hosts in wanted:
                try:
                    if not self._is_good(stem, hosts):
                        self._keep(stem, await self._certify(client, signer, hosts))
                        self._reload(stem)
                except (CorralError, OSError) as error:
                    _log.warning("cannot renew the certificate %s, will try again in an hour: %s", stem, error)
            await self._clock.sleep(_LOOK_SECONDS)

    def _reload(self, stem: str) -> None:
        context = self._client_context if stem == "client" else self._server_context
        if context is not None:
            self._load(stem, context)

    def _load(self, stem: str, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._directory / f"{stem}.pem")
        except (OSError, ssl.SSLError) as error:
            raise CorralError(
                f"cannot use {self._directory}/{stem}.pem: {error}", "join again with a new token"
            ) from error

    def _keep(self, stem: str, pair: bytes) -> None:
        """Certificate and key in one file, so that a crash leaves the old ones or the new ones."""
        write_private(self._directory / f"{stem}.pem", pair)

    def _is_good(self, stem: str, hosts: Sequence[str]) -> bool:
        certificate = self._read(stem)
        if certificate is None:
            return False
        fits = certificates.hosts_of(certificate) == frozenset(hosts)
        return fits and not certificates.is_due(certificate, self._clock.now())

    def _read(self, stem: str) -> x509.Certificate | None:
        """The certificate, if there is one of this cell."""
        try:
            certificate = x509.load_pem_x509_certificate((self._directory / f"{stem}.pem").read_bytes())
            certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(self.authority))
        except (OSError, ValueError, TypeError, InvalidSignature):
            return None
        return certificate

    async def _certify(self, client: Client, signer: str, hosts: Sequence[str]) -> bytes:
        """Ask for a certificate with a new key and wait for it; gives both as PEM.

        Raises:
            CorralError: it is refused, or nobody answers.
        """
        key = certificates.new_key()
        name = f"system:node:{self._membership.name}"
        use = "client auth" if signer == CLIENT_SIGNER else "server auth"
        request: Obj = {
            "kind": "CertificateSigningRequest",
            "apiVersion": "certificates.k8s.io/v1",
            "metadata": {"name": f"node-{self._membership.name}-{new_uid()[:8]}"},
            "spec": {
                "request": base64.b64encode(certificates.request_pem(key, name, _GROUPS, hosts)).decode(),
                "signerName": signer,
                "usages": ["digital signature", use],
            },
        }
        made = await client.create(CERTIFICATE_SIGNING_REQUESTS, request)
        return await _answer(client, made) + certificates.key_pem(key)


async def _answer(client: Client, request: Obj) -> bytes:
    """The certificate that a request gets.

    Raises:
        CorralError: it is denied, or nobody answers.
    """
    name = request["metadata"]["name"]
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            while True:
                certificate = (request.get("status") or {}).get("certificate")
                if certificate:
                    return base64.b64decode(certificate)
                for word in ("Denied", "Failed"):
                    if conditions.is_true(request, word):
                        said = (conditions.get(request, word) or {}).get("message") or word
                        raise CorralError(f"cannot join: {said}", "do what the message says; then join again")
                await asyncio.sleep(0.1)
                request = await client.get(CERTIFICATE_SIGNING_REQUESTS, name)
    except TimeoutError as error:
        raise CorralError(
            f"cannot join: nobody answered the request {name} in {_ANSWER_SECONDS:.0f} s",
            "see whether the cell's controllers run; `kubectl certificate approve` approves by hand",
        ) from error


def _refused(error: StatusError) -> CorralError:
    if error.code == 401:
        return CorralError(
            "cannot join: the token is unknown or over", "make a new line on the server: corral token create"
        )
    return CorralError(f"cannot join: {error.message}", "make a new line on the server: corral token create")
