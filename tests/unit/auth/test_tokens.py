import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from corral.apiserver.auth import certificates
from corral.apiserver.auth.pki import Pki
from corral.apiserver.auth.tokens import DEFAULT_ISSUER, TokenIssuer
from corral.kinds.status import StatusError
from corral.store.memory import MemoryStore
from corral.testing.clock import FakeClock

ACCOUNT = {"metadata": {"name": "robot", "namespace": "ns", "uid": "sa-1"}}
POD = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "pod-1"},
    "spec": {"serviceAccountName": "robot", "nodeName": "n1"},
}
NODE = {"metadata": {"name": "n1", "uid": "node-1"}}


@pytest.fixture
async def tokens(store: MemoryStore, pki: Pki, clock: FakeClock, put: Any) -> TokenIssuer:
    await put("core", "serviceaccounts", ACCOUNT)
    await put("core", "pods", POD)
    await put("core", "nodes", NODE)
    return TokenIssuer(pki.service_account_key, store, clock)


def issue(tokens: TokenIssuer, **kw: Any) -> str:
    options: dict[str, Any] = {"audiences": [], "seconds": 3600, "bound": None, **kw}
    return tokens.issue("ns", "robot", "sa-1", **options)[0]


def claims_of(token: str) -> Any:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def refused(tokens: TokenIssuer, token: str, audiences: list[str] | None = None) -> None:
    with pytest.raises(StatusError) as error:
        tokens.verify(token, audiences or [])
    assert (error.value.code, error.value.message) == (401, "Unauthorized")


def sign(claims: dict[str, Any], pki: Pki, **header: Any) -> str:
    key = ECKey.import_key(certificates.key_pem(pki.service_account_key).decode())
    return jwt.encode({"alg": "ES256", **header}, claims, key, algorithms=["ES256"])


async def test_claims_are_kubernetes(tokens: TokenIssuer, clock: FakeClock) -> None:
    token = issue(tokens, bound={"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "pod-1"})
    claims = claims_of(token)
    now = int(clock.now().timestamp())
    assert claims.pop("jti")
    assert claims == {
        "aud": [DEFAULT_ISSUER],
        "exp": now + 3600,
        "iat": now,
        "iss": DEFAULT_ISSUER,
        "nbf": now,
        "sub": "system:serviceaccount:ns:robot",
        "kubernetes.io": {
            "namespace": "ns",
            "serviceaccount": {"name": "robot", "uid": "sa-1"},
            "pod": {"name": "p", "uid": "pod-1"},
            "node": {"name": "n1", "uid": "node-1"},
        },
    }


async def test_a_good_token_names_the_account(tokens: TokenIssuer) -> None:
    token = issue(tokens, bound=POD | {"kind": "Pod"})
    first = tokens.verify(token)
    assert first.user.name == "system:serviceaccount:ns:robot"
    assert first.user.uid == "sa-1"
    assert first.user.groups == ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")
    assert first.user.extra["authentication.kubernetes.io/pod-name"] == ["p"]
    assert first.user.extra["authentication.kubernetes.io/node-uid"] == ["node-1"]
    assert tokens.verify(token) is first


async def test_time_ends_it_also_when_remembered(tokens: TokenIssuer, clock: FakeClock) -> None:
    token = issue(tokens, seconds=600)
    tokens.verify(token)
    await clock.advance(599)
    tokens.verify(token)
    await clock.advance(1)
    refused(tokens, token)
    refused(tokens, token)


async def test_not_before(tokens: TokenIssuer, pki: Pki, clock: FakeClock) -> None:
    claims = claims_of(issue(tokens))
    refused(tokens, sign(claims | {"nbf": claims["nbf"] + 60}, pki))


@pytest.mark.parametrize("gone", ["serviceaccounts", "pods"])
@pytest.mark.parametrize("remembered", [True, False])
async def test_it_falls_with_what_it_is_bound_to(tokens: TokenIssuer, put: Any, gone: str, remembered: bool) -> None:
    token = issue(tokens, bound=POD | {"kind": "Pod"})
    if remembered:
        tokens.verify(token)
    obj: dict[str, Any] = ACCOUNT if gone == "serviceaccounts" else POD
    await put("core", gone, obj, gone=True)
    refused(tokens, token)
    # One of the same name is another one.
    await put("core", gone, {**obj, "metadata": {**obj["metadata"], "uid": "another"}})
    refused(tokens, token)


async def test_an_update_of_the_account_changes_nothing(tokens: TokenIssuer, put: Any) -> None:
    token = issue(tokens)
    tokens.verify(token)
    await put("core", "serviceaccounts", {**ACCOUNT, "secrets": []})
    tokens.verify(token)


async def test_audiences(tokens: TokenIssuer) -> None:
    token = issue(tokens, audiences=["vault", "registry"])
    refused(tokens, token)
    assert tokens.verify(token, ["other", "vault"]).audiences == ("vault",)
    refused(tokens, token, ["other"])
    refused(tokens, issue(tokens), ["vault"])


async def test_another_cells_key_is_no_key(tokens: TokenIssuer, clock: FakeClock) -> None:
    forged = jwt.encode({"alg": "ES256"}, claims_of(issue(tokens)), ECKey.generate_key("P-256"), algorithms=["ES256"])
    refused(tokens, forged)


async def test_unsigned_and_confused_algorithms(tokens: TokenIssuer, pki: Pki) -> None:
    token = issue(tokens)
    payload = token.split(".")[1]
    for algorithm in ("none", "None", "NONE", ""):
        header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()).rstrip(b"=").decode()
        refused(tokens, f"{header}.{payload}.")
        refused(tokens, f"{header}.{payload}.{token.split('.')[2]}")
    # The public key as the secret of an HMAC.
    public = pki.service_account_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    secret = OctKey.import_key(base64.urlsafe_b64encode(public).decode())
    refused(tokens, jwt.encode({"alg": "HS256"}, claims_of(token), secret, algorithms=["HS256"]))


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://elsewhere"},
        {"sub": "system:serviceaccount:ns:admin"},
        {"aud": None},
        {"aud": {"a": 1}},
        {"exp": None},
        {"exp": "99999999999"},
        {"exp": True},
        {"nbf": None},
        {"kubernetes.io": None},
        {"kubernetes.io": {"namespace": "ns"}},
        {"kubernetes.io": {"namespace": "ns", "serviceaccount": {"name": "robot", "uid": "sa-2"}}},
        {
            "kubernetes.io": {
                "namespace": "ns",
                "serviceaccount": {"name": "robot", "uid": "sa-1"},
                "pod": {"name": "x"},
            }
        },
        {"kubernetes.io": {"namespace": "ns", "serviceaccount": {"name": "robot", "uid": "sa-1"}, "pod": None}},
    ],
)
async def test_claims_that_do_not_hold(tokens: TokenIssuer, pki: Pki, change: dict[str, Any]) -> None:
    claims = claims_of(issue(tokens))
    tokens.verify(sign(claims, pki))
    refused(tokens, sign(claims | change, pki))


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{0,20}\.[A-Za-z0-9_-]{0,20}\.[A-Za-z0-9_-]{0,20}"))
def test_noise_is_refused(text: str) -> None:
    tokens = TokenIssuer(certificates.new_key(), MemoryStore(), FakeClock())
    refused(tokens, text)


async def test_every_changed_byte_breaks_it(tokens: TokenIssuer) -> None:
    token = issue(tokens)
    for position in range(0, len(token) - 2, 7):
        if token[position] == ".":
            continue
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        refused(tokens, changed)


@pytest.mark.parametrize("seconds", [0, 599, (1 << 32) + 1])
async def test_impossible_durations(tokens: TokenIssuer, seconds: int) -> None:
    with pytest.raises(StatusError) as error:
        issue(tokens, seconds=seconds)
    assert error.value.code == 422
    assert error.value.causes[0].field == "spec.expirationSeconds"


@pytest.mark.parametrize(
    ("bound", "code"),
    [
        ({"kind": "Pod", "name": "missing", "uid": "x"}, 404),
        ({"kind": "Pod", "name": "p", "uid": "another"}, 409),
        ({"kind": "ConfigMap", "name": "p"}, 422),
    ],
)
async def test_bound_to_what_is_not_there(tokens: TokenIssuer, bound: dict[str, str], code: int) -> None:
    with pytest.raises(StatusError) as error:
        issue(tokens, bound=bound)
    assert error.value.code == code


async def test_a_pod_of_another_account(tokens: TokenIssuer, put: Any) -> None:
    await put("core", "pods", {**POD, "spec": {"serviceAccountName": "other"}})
    with pytest.raises(StatusError) as error:
        issue(tokens, bound={"kind": "Pod", "name": "p", "uid": "pod-1"})
    assert error.value.code == 409


async def test_discovery_documents_let_others_verify(tokens: TokenIssuer) -> None:
    document = tokens.openid_configuration("https://cell/openid/v1/jwks")
    assert document["issuer"] == DEFAULT_ISSUER
    (key,) = tokens.jwks()["keys"]
    assert "d" not in key
    decoded = jwt.decode(issue(tokens), ECKey.import_key(key), algorithms=["ES256"])
    assert decoded.claims["sub"] == "system:serviceaccount:ns:robot"
    assert decoded.header["kid"] == key["kid"]
