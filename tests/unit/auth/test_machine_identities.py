"""A machine's certificate counts while its MachineIdentity names it."""

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from corral.apiserver.auth import certificates
from corral.apiserver.auth.authn import CellAuthenticator
from corral.apiserver.auth.pki import Pki
from corral.apiserver.auth.tokens import TokenIssuer
from corral.kinds import machineidentities
from corral.kinds.status import StatusError
from corral.store.memory import MemoryStore
from corral.testing.clock import FakeClock


@pytest.fixture
def authenticator(pki: Pki, store: MemoryStore, clock: FakeClock) -> CellAuthenticator:
    return CellAuthenticator(TokenIssuer(pki.service_account_key, store, clock), clock)


def certificate(pki: Pki, uid: str, name: str = "system:node:m1", group: str = "system:nodes") -> bytes:
    asked = certificates.request_pem(certificates.new_key(), name, [group])
    made = x509.load_pem_x509_certificate(pki.sign_request(asked, True, None, uid))
    return made.public_bytes(Encoding.DER)


async def identify(put: Any, uid: str) -> None:
    await put("corral.dev", "machineidentities", machineidentities.new("m1", uid))


async def test_the_uid_in_a_certificate_is_the_users(authenticator: CellAuthenticator, pki: Pki) -> None:
    assert authenticator.certificate(certificate(pki, "u1")).uid == "u1"
    assert authenticator.certificate(certificate(pki, "")).uid == ""


async def test_of_a_name_that_is_not_looked_after_every_certificate_counts(
    authenticator: CellAuthenticator, pki: Pki
) -> None:
    assert authenticator.certificate(certificate(pki, "")).name == "system:node:m1"


async def test_only_the_one_that_is_named_counts(authenticator: CellAuthenticator, pki: Pki, put: Any) -> None:
    first, second = certificate(pki, "u1"), certificate(pki, "u2")
    assert authenticator.certificate(first).uid == "u1"
    await identify(put, "u2")
    assert authenticator.certificate(second).uid == "u2"
    with pytest.raises(StatusError) as refused:
        authenticator.certificate(first)
    assert refused.value.code == 401
    assert [cause.reason for cause in refused.value.causes] == [machineidentities.REMOVED]


@pytest.mark.parametrize("uid", ["u1", ""])
async def test_of_a_machine_that_was_removed_none_counts(
    authenticator: CellAuthenticator, pki: Pki, put: Any, uid: str
) -> None:
    der = certificate(pki, uid)
    authenticator.certificate(der)
    await identify(put, "")
    with pytest.raises(StatusError, match="m1 was removed"):
        authenticator.certificate(der)


async def test_nobody_but_machines_is_concerned(authenticator: CellAuthenticator, pki: Pki, put: Any) -> None:
    await identify(put, "")
    assert authenticator.certificate(certificate(pki, "", group="people")).name == "system:node:m1"
    assert authenticator.certificate(certificate(pki, "", name="system:node:m2")).name == "system:node:m2"
