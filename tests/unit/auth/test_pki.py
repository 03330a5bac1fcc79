import os
import ssl
import stat
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.apiserver.auth import certificates, kubeconfig
from corral.apiserver.auth.authn import CellAuthenticator
from corral.apiserver.auth.files import write_private
from corral.apiserver.auth.pki import Pki, server_hosts
from corral.apiserver.auth.tokens import TokenIssuer
from corral.base.errors import CorralError
from corral.kinds.status import StatusError
from corral.store.memory import MemoryStore
from corral.testing.clock import FakeClock

FILES = ["ca.crt", "ca.key", "sa.key", "apiserver.crt", "apiserver.key", "admin.crt", "admin.key"]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_files_are_their_owners_only(pki: Pki) -> None:
    assert mode(pki.directory) == 0o700
    assert {path.name: mode(path) for path in pki.directory.iterdir()} == dict.fromkeys(FILES, 0o600)


def test_opening_again_changes_nothing(pki: Pki, clock: FakeClock) -> None:
    before = {name: (pki.directory / name).read_bytes() for name in FILES}
    again = Pki.open(pki.directory, hosts=["cell.example"], clock=clock)
    assert {name: (pki.directory / name).read_bytes() for name in FILES} == before
    assert again.ca_pem == pki.ca_pem


def test_wide_permissions_are_taken_away(pki: Pki, clock: FakeClock) -> None:
    for name in ("ca.key", "sa.key", "apiserver.key", "admin.key"):
        (pki.directory / name).chmod(0o644)
    pki.directory.chmod(0o755)
    Pki.open(pki.directory, hosts=["cell.example"], clock=clock)
    assert mode(pki.directory) == 0o700
    assert {mode(pki.directory / name) for name in ("ca.key", "sa.key", "apiserver.key", "admin.key")} == {0o600}


def test_new_hosts_get_a_new_certificate_of_the_same_authority(pki: Pki, clock: FakeClock) -> None:
    before = read(pki.directory / "apiserver.crt")
    Pki.open(pki.directory, hosts=["other.example", "192.0.2.7"], clock=clock)
    after = read(pki.directory / "apiserver.crt")
    assert after.serial_number != before.serial_number
    hosts = certificates.hosts_of(after)
    assert {"other.example", "192.0.2.7", "127.0.0.1", "::1", "localhost", "kubernetes.default.svc"} <= hosts
    assert (pki.directory / "ca.crt").read_bytes() == pki.ca_pem


async def test_certificates_are_renewed_after_two_thirds_of_their_life(pki: Pki, clock: FakeClock) -> None:
    before = read(pki.directory / "apiserver.crt")
    await clock.advance(timedelta(days=240).total_seconds())
    assert not pki.renew()
    await clock.advance(timedelta(days=10).total_seconds())
    assert pki.renew()
    after = read(pki.directory / "apiserver.crt")
    assert after.not_valid_after_utc > before.not_valid_after_utc


async def test_lent_contexts_get_new_certificates_too(pki: Pki, clock: FakeClock) -> None:
    context = pki.client_context("kube-apiserver-kubelet-client", [])
    before = context.cert_store_stats()
    lent = pki._lent[0]
    assert lent.certificate is not None
    serial = lent.certificate.serial_number
    await clock.advance(timedelta(days=240).total_seconds())
    pki.renew()
    assert lent.certificate.serial_number == serial
    await clock.advance(timedelta(days=10).total_seconds())
    pki.renew()
    assert lent.certificate.serial_number != serial
    assert context.cert_store_stats() == before
    assert sorted(os.listdir(pki.directory)) == sorted(FILES)


@settings(deadline=None, max_examples=30)
@given(st.sets(st.sampled_from([name for name in FILES if name != "ca.key"])))
def test_what_a_crash_left_out_is_made(missing: set[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        clock = FakeClock()
        path = Path(directory) / "pki"
        first = Pki.open(path, hosts=[], clock=clock)
        key = (path / "ca.key").read_bytes()
        for name in missing:
            (path / name).unlink()
        second = Pki.open(path, hosts=[], clock=clock)
        assert sorted(os.listdir(path)) == sorted(FILES)
        assert (path / "ca.key").read_bytes() == key
        # What the first one issued is still good for the second's authority.
        certificate, _ = first.issue_client("a", [], timedelta(days=1))
        x509.load_pem_x509_certificate(certificate).verify_directly_issued_by(
            x509.load_pem_x509_certificate(second.ca_pem)
        )


def test_a_lost_authority_key_is_refused_by_name(pki: Pki, clock: FakeClock) -> None:
    (pki.directory / "ca.key").unlink()
    with pytest.raises(CorralError, match=r"ca\.key is missing"):
        Pki.open(pki.directory, hosts=[], clock=clock)
    assert not (pki.directory / "ca.key").exists()


@pytest.mark.parametrize("name", ["ca.key", "ca.crt", "sa.key"])
def test_a_damaged_file_is_refused_by_name_and_left_alone(pki: Pki, clock: FakeClock, name: str) -> None:
    (pki.directory / name).write_bytes(b"-----BEGIN nonsense")
    with pytest.raises(CorralError, match=name.replace(".", r"\.")):
        Pki.open(pki.directory, hosts=[], clock=clock)
    assert (pki.directory / name).read_bytes() == b"-----BEGIN nonsense"


def test_a_certificate_of_another_authority_is_refused(pki: Pki, clock: FakeClock, tmp_path: Path) -> None:
    other = Pki.open(tmp_path / "other", hosts=[], clock=clock)
    (pki.directory / "ca.crt").write_bytes(other.ca_pem)
    with pytest.raises(CorralError, match=r"is not the certificate of"):
        Pki.open(pki.directory, hosts=[], clock=clock)


def test_an_existing_file_is_never_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, b"one", replace=False)
    with pytest.raises(FileExistsError):
        write_private(path, b"two", replace=False)
    assert path.read_bytes() == b"one"
    write_private(path, b"three")
    assert path.read_bytes() == b"three"
    assert os.listdir(tmp_path) == ["file"]


def test_unspecified_addresses_are_no_hosts() -> None:
    assert not {"0.0.0.0", "::"} & set(server_hosts(["0.0.0.0", "::"]))


def test_contexts(pki: Pki) -> None:
    server = pki.server_context()
    assert server.verify_mode is ssl.CERT_OPTIONAL
    assert server.minimum_version is ssl.TLSVersion.TLSv1_2
    assert pki.agent_server_context("n1", ["127.0.0.1"]).verify_mode is ssl.CERT_REQUIRED
    assert pki.client_context("x", []).verify_mode is ssl.CERT_REQUIRED
    assert sorted(os.listdir(pki.directory)) == sorted(FILES)


async def test_a_certificate_names_its_holder_until_it_ends(pki: Pki, clock: FakeClock) -> None:
    authenticator = CellAuthenticator(TokenIssuer(pki.service_account_key, MemoryStore(), clock), clock)
    pem, _ = pki.issue_client("system:node:n1", ["system:nodes"], timedelta(hours=1))
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    user = authenticator.certificate(der)
    assert (user.name, user.groups) == ("system:node:n1", ("system:nodes", "system:authenticated"))
    assert authenticator.certificate(der) is user
    await clock.advance(3601)
    with pytest.raises(StatusError) as refused:
        authenticator.certificate(der)
    assert refused.value.code == 401


def test_what_is_no_certificate_names_nobody(pki: Pki, clock: FakeClock) -> None:
    authenticator = CellAuthenticator(TokenIssuer(pki.service_account_key, MemoryStore(), clock), clock)
    with pytest.raises(StatusError):
        authenticator.certificate(b"nonsense")
    with pytest.raises(StatusError):
        authenticator.certificate(nameless(clock).public_bytes(serialization.Encoding.DER))


def nameless(clock: FakeClock) -> x509.Certificate:
    """A certificate with a group but no name."""
    key = certificates.new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(clock.now())
        .not_valid_after(clock.now() + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )


def test_kubeconfig_is_private(pki: Pki, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    kubeconfig.write(path, "https://127.0.0.1:6443", pki.ca_pem, *pki.admin(), "corral")
    assert mode(path) == 0o600
    text = path.read_text()
    assert "https://127.0.0.1:6443" in text
    assert "current-context: corral" in text
