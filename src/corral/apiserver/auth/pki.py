"""A cell's keys and certificates, in one directory.

    ca.crt ca.key                  the authority; everything else follows from it
    sa.key                         signs service account tokens
    apiserver.crt apiserver.key    what the API server shows
    admin.crt admin.key            the first user, in group system:masters

`ca.key` and `sa.key` are written once and never replaced. The rest is derived: reissued when it is missing, does not
fit, or two thirds of its life are over. A directory that a crash left half-written is completed; one from which the
authority's key was lost is refused by name, because a new authority would shut out every client.
"""

import ipaddress
import logging
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from corral.apiserver.auth import certificates
from corral.apiserver.auth.certificates import Authority
from corral.apiserver.auth.files import make_private_directory, write_private
from corral.base.clock import Clock, SystemClock
from corral.base.errors import CorralError
from corral.wire.resumption import ResumingContext

log = logging.getLogger(__name__)

LEAF_LIFE = timedelta(days=365)
ADMIN = "kubernetes-admin"
MASTERS = "system:masters"
_ALWAYS = (
    "localhost",
    "127.0.0.1",
    "::1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
_SYSTEM_CLOCK = SystemClock()


_Issue: TypeAlias = Callable[[], tuple[bytes, bytes]]


@dataclass(slots=True)
class _Lent:
    """A context whose certificate exists nowhere else."""

    context: ssl.SSLContext
    issue: _Issue
    certificate: x509.Certificate | None = None


class Pki:
    """The authority and what it signs. Build it with `open`."""

    def __init__(
        self,
        directory: Path,
        authority: Authority,
        service_account_key: ec.EllipticCurvePrivateKey,
        hosts: Sequence[str],
        clock: Clock,
    ) -> None:
        self.directory = directory
        self.service_account_key = service_account_key
        self._authority = authority
        self._hosts = server_hosts(hosts)
        self._clock = clock
        self._context: ssl.SSLContext | None = None
        self._lent: list[_Lent] = []

    @classmethod
    def open(cls, directory: Path, *, hosts: Sequence[str], clock: Clock = _SYSTEM_CLOCK) -> "Pki":
        """Load the directory, or create what is missing in it.

        `hosts` are the names and addresses, beyond the usual ones, under which clients reach the server.

        Raises:
            CorralError: a file is lost, broken or unreadable; it is named.
        """
        make_private_directory(directory)
        try:
            authority = _open_authority(directory, clock)
            signing = _open_key(directory / "sa.key")
            pki = cls(directory, authority, signing, hosts, clock)
            pki.renew()
        except OSError as error:
            raise CorralError(
                f"cannot use {error.filename or directory}: {error.strerror}",
                "free space on its disk, or check its rights",
            ) from error
        return pki

    @property
    def ca_pem(self) -> bytes:
        """The authority's certificate, for clients to trust."""
        return certificates.certificate_pem(self._authority.certificate)

    def renew(self) -> bool:
        """Reissue what is due; contexts in use, lent ones too, take new certificates for their next handshakes.

        Call it about once a day in a long-lived process. Returns whether the server's certificate is a new one.
        """
        self._renew("admin", lambda: self.issue_client(ADMIN, [MASTERS], LEAF_LIFE), frozenset())
        renewed = self._renew(
            "apiserver", lambda: self.issue_serving("kube-apiserver", self._hosts), frozenset(self._hosts)
        )
        for lent in self._lent:
            if lent.certificate is not None and certificates.is_due(lent.certificate, self._clock.now()):
                self._load(lent)
        if renewed and self._context is not None:
            self._context.load_cert_chain(self.directory / "apiserver.crt", self.directory / "apiserver.key")
        return renewed

    def issue_client(self, name: str, groups: Sequence[str], ttl: timedelta) -> tuple[bytes, bytes]:
        """A new key and a certificate for the user `name` in `groups`: certificate and key as PEM."""
        key = certificates.new_key()
        certificate = certificates.sign_client(self._authority, key, name, groups, ttl, self._clock.now())
        return certificates.certificate_pem(certificate), certificates.key_pem(key)

    def issue_serving(self, name: str, hosts: Sequence[str], groups: Sequence[str] = ()) -> tuple[bytes, bytes]:
        """A new key and a serving certificate for `hosts`: certificate and key as PEM."""
        key = certificates.new_key()
        now = self._clock.now()
        certificate = certificates.sign_serving(self._authority, key, name, groups, hosts, LEAF_LIFE, now)
        return certificates.certificate_pem(certificate), certificates.key_pem(key)

    def sign_request(self, pem: bytes, client: bool, seconds: int | None, uid: str = "") -> bytes:
        """The certificate (PEM) that a request asks for, with the user's `uid`, for `seconds` or a year at most.

        Raises:
            ValueError: it is no request, or not signed by its own key.
        """
        life = LEAF_LIFE if seconds is None else min(LEAF_LIFE, timedelta(seconds=seconds))
        asked = x509.load_pem_x509_csr(pem)
        now = self._clock.now()
        made = certificates.sign_request(self._authority, asked, client=client, life=life, now=now, uid=uid)
        return certificates.certificate_pem(made)

    @property
    def fingerprint(self) -> str:
        """What pins this authority: `sha256:` and a digest."""
        return certificates.fingerprint(self._authority.certificate)

    def admin(self) -> tuple[bytes, bytes]:
        """The first user's certificate and key as PEM."""
        return (self.directory / "admin.crt").read_bytes(), (self.directory / "admin.key").read_bytes()

    def server_context(self) -> ssl.SSLContext:
        """TLS as the API server speaks it: a client may show a certificate; one not of ours ends the handshake."""
        if self._context is None:
            context = server_context(self.ca_pem, require_client=False)
            context.load_cert_chain(self.directory / "apiserver.crt", self.directory / "apiserver.key")
            self._context = context
        return self._context

    def agent_server_context(self, name: str, hosts: Sequence[str]) -> ssl.SSLContext:
        """TLS as an agent beside this server speaks it: the caller must show a certificate of this authority."""
        context = server_context(self.ca_pem, require_client=True)
        self._lend(context, lambda: self.issue_serving(f"system:node:{name}", hosts, ["system:nodes"]))
        return context

    def client_context(self, name: str, groups: Sequence[str]) -> ssl.SSLContext:
        """TLS for a client beside this server that acts as `name`."""
        context = client_context(self.ca_pem)
        self._lend(context, lambda: self.issue_client(name, groups, LEAF_LIFE))
        return context

    def _lend(self, context: ssl.SSLContext, issue: _Issue) -> None:
        lent = _Lent(context, issue)
        self._load(lent)
        self._lent.append(lent)

    def _load(self, lent: "_Lent") -> None:
        certificate, key = lent.issue()
        lent.certificate = x509.load_pem_x509_certificate(certificate)
        # SSLContext reads files only; the pair lies on disk no longer than this call.
        path = self.directory / f".lent.{secrets.token_hex(6)}"
        write_private(path, certificate + key)
        try:
            lent.context.load_cert_chain(path)
        finally:
            path.unlink()

    def _renew(self, stem: str, issue: _Issue, hosts: frozenset[str]) -> bool:
        certificate_path, key_path = self.directory / f"{stem}.crt", self.directory / f"{stem}.key"
        if self._is_good(certificate_path, key_path, hosts):
            return False
        certificate, key = issue()
        write_private(key_path, key)
        write_private(certificate_path, certificate)
        log.info("issued %s", certificate_path)
        return True

    def _is_good(self, certificate_path: Path, key_path: Path, hosts: frozenset[str]) -> bool:
        try:
            certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
            key = certificates.read_key(key_path.read_bytes())
            certificate.verify_directly_issued_by(self._authority.certificate)
        except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
            return False
        key_path.chmod(0o600)
        fits = certificates.belong_together(certificate, key) and certificates.hosts_of(certificate) == hosts
        return fits and not certificates.is_due(certificate, self._clock.now())


def server_hosts(hosts: Sequence[str]) -> tuple[str, ...]:
    """Every name and address that the server's certificate carries."""
    found = {*_ALWAYS, socket.gethostname().lower()}
    for host in hosts:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            found.add(host.lower())
            continue
        if not address.is_unspecified:
            found.add(str(address))
    return tuple(sorted(found))


def server_context(ca_pem: bytes, *, require_client: bool) -> ssl.SSLContext:
    """A server's TLS: 1.2 and up, HTTP/1.1 only, session tickets on, client certificates of this authority only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
    return context


def client_context(ca_pem: bytes) -> ssl.SSLContext:
    """A client's TLS that trusts this authority and nobody else."""
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    return context


def _open_authority(directory: Path, clock: Clock) -> Authority:
    key_path, certificate_path = directory / "ca.key", directory / "ca.crt"
    if certificate_path.exists() and not key_path.exists():
        raise CorralError(
            f"cannot use the authority in {directory}: {key_path} is missing while {certificate_path} is there",
            f"restore {key_path} from a backup; or remove {directory} to make a new authority (every kubeconfig of "
            "this cell then has to be fetched anew)",
        )
    key = _open_key(key_path)
    if not certificate_path.exists():
        certificate = certificates.self_sign(key, "corral-ca", clock.now())
        write_private(certificate_path, certificates.certificate_pem(certificate), replace=False)
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    except ValueError as error:
        raise CorralError(
            f"cannot read {certificate_path}: not a PEM certificate", "restore it from a backup"
        ) from error
    if not certificates.belong_together(certificate, key):
        raise CorralError(
            f"cannot use the authority in {directory}: {certificate_path} is not the certificate of {key_path}",
            "restore the one that was changed from a backup",
        )
    return Authority(certificate, key)


def _open_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        write_private(path, certificates.key_pem(certificates.new_key()), replace=False)
    path.chmod(0o600)
    try:
        return certificates.read_key(path.read_bytes())
    except (ValueError, TypeError) as error:
        raise CorralError(f"cannot read the key {path}: {error}", "restore it from a backup") from error
