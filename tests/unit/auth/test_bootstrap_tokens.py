"""Tokens of new machines."""

import base64
from datetime import timedelta
from typing import Any

import pytest

from corral.apiserver.auth import bootstrap_tokens
from corral.apiserver.auth.lookup import core_key
from corral.apiserver.rendering import encode
from corral.kinds.bootstraptokens import NAMESPACE, secret_name, token_secret
from corral.kinds.status import StatusError
from corral.store.memory import MemoryStore
from corral.testing.clock import EPOCH, FakeClock

TOKEN = "abcdef.0123456789abcdef"


async def store_with(**changes: Any) -> MemoryStore:
    store = MemoryStore()
    secret = token_secret("abcdef", "0123456789abcdef", "", EPOCH + timedelta(hours=1))
    data = {name: base64.b64encode(text.encode()).decode() for name, text in secret.pop("stringData").items()}
    secret["data"] = data | {
        name.replace("_", "-"): base64.b64encode(text.encode()).decode()
        for name, text in changes.items()
        if name != "type"
    }
    secret["type"] = changes.get("type", secret["type"])
    await store.create(core_key("secrets", NAMESPACE, secret_name("abcdef")), encode(secret))
    return store


async def test_a_good_token_is_a_bootstrapper() -> None:
    user = bootstrap_tokens.verify(
        TOKEN, await store_with(auth_extra_groups="system:bootstrappers:x,evil"), FakeClock()
    )
    assert user.name == "system:bootstrap:abcdef"
    assert user.groups == ("system:bootstrappers", "system:bootstrappers:x", "system:authenticated")


@pytest.mark.parametrize(
    "token", ["abcdef.0123456789abcdeg", "abcdeg.0123456789abcdef", "abcdef.", "x", "../.." + TOKEN]
)
async def test_other_tokens_are_nobody(token: str) -> None:
    with pytest.raises(StatusError) as refused:
        bootstrap_tokens.verify(token, await store_with(), FakeClock())
    assert refused.value.code == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"usage_bootstrap_authentication": "false"},
        {"expiration": "2000-01-01T00:00:00Z"},
        {"expiration": "soon"},
        {"token_id": "zzzzzz"},
        {"type": "Opaque"},
    ],
)
async def test_a_token_that_is_over_or_for_something_else_is_nobody(changes: dict[str, str]) -> None:
    with pytest.raises(StatusError):
        bootstrap_tokens.verify(TOKEN, await store_with(**changes), FakeClock())
