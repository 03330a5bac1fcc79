"""X.509 as pure functions: keys, the authority's certificate, and the certificates it signs.

Keys are ECDSA P-256: a handshake costs a tenth of RSA-2048's, and every TLS client since 2012 takes them.
"""

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Machines' clocks differ: a certificate is good from a little before it was made.
_SKEW = timedelta(minutes=5)

UID = x509.ObjectIdentifier("1.3.6.1.4.1.57683.2")
"""Attribute of a subject that is the user's uid (Kubernetes' AllowParsingUserUIDFromCertAuth)."""
AUTHORITY_LIFE = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Authority:
    """What signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The P-256 key in `pem`.

    Raises:
        ValueError: it is not one.
    """
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not an ECDSA P-256 key")
    return key


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def belong_together(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether `certificate` certifies `key`."""
    return _spki(certificate.public_key()) == _spki(key.public_key())


def _spki(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined,no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def self_sign(key: ec.EllipticCurvePrivateKey, name: str, now: datetime) -> x509.Certificate:
    """An authority's own certificate, good for ten years."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


def sign_client(
    authority: Authority,
    key: ec.EllipticCurvePrivateKey,
    name: str,
    groups: Sequence[str],
    life: timedelta,
    now: datetime,
) -> x509.Certificate:
    """A certificate that makes its holder the user `name` (CN) in `groups` (O)."""
    return _sign(authority, key.public_key(), _subject(name, groups), life, now, [ExtendedKeyUsageOID.CLIENT_AUTH], ())


def sign_serving(
    authority: Authority,
    key: ec.EllipticCurvePrivateKey,
    name: str,
    groups: Sequence[str],
    hosts: Sequence[str],
    life: timedelta,
    now: datetime,
) -> x509.Certificate:
    """A certificate for a TLS server that answers to `hosts` (names or addresses)."""
    uses = [ExtendedKeyUsageOID.SERVER_AUTH]
    return _sign(authority, key.public_key(), _subject(name, groups), life, now, uses, hosts)


def sign_request(
    authority: Authority,
    asked: x509.CertificateSigningRequest,
    *,
    client: bool,
    life: timedelta,
    now: datetime,
    uid: str = "",
) -> x509.Certificate:
    """The certificate that `asked` asks for: its subject, key, names and addresses, for one use only; and the user's
    `uid`.

    Raises:
        ValueError: it is not signed by its own key.
    """
    if not asked.is_signature_valid:
        raise ValueError("the request is not signed by its own key")
    try:
        listed = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = [str(name.value) for name in listed]
    except x509.ExtensionNotFound:
        hosts = []
    use = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
    own = [x509.NameAttribute(UID, uid)] if uid else []
    subject = x509.Name([*asked.subject, *own])
    return _sign(authority, asked.public_key(), subject, life, now, [use], hosts)


def request_pem(key: ec.EllipticCurvePrivateKey, name: str, groups: Sequence[str], hosts: Sequence[str] = ()) -> bytes:
    """A request for a certificate of `key`."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(name, groups))
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def fingerprint(certificate: x509.Certificate) -> str:
    """The hash that pins an authority: `sha256:` and the digest of its public key, as kubeadm writes it."""
    return f"sha256:{hashlib.sha256(_spki(certificate.public_key())).hexdigest()}"


def hosts_of(certificate: x509.Certificate) -> frozenset[str]:
    """The names and addresses in the certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return frozenset(addresses | set(names.get_values_for_type(x509.DNSName)))


def is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether two thirds of the certificate's life are over."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begin + (end - begin) * 2 / 3


def _subject(name: str, groups: Sequence[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _sign(
    authority: Authority,
    key: CertificatePublicKeyTypes,
    subject: x509.Name,
    life: timedelta,
    now: datetime,
    uses: Sequence[x509.ObjectIdentifier],
    hosts: Sequence[str],
) -> x509.Certificate:
    authority_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(min(now + life, authority.certificate.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(authority_identifier, critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
