"""Requests for certificates, through a real API."""

import base64
from typing import Any

import pytest

from corral.apiserver.auth import certificates
from corral.apiserver.auth.api import User
from corral.apiserver.inprocess import InProcessTransport
from corral.cli.removal import remove_machine
from corral.client.client import Client
from corral.controllers.certificates.plan import CLIENT, uid_for
from corral.kinds import conditions, machineidentities
from corral.kinds.resources import CERTIFICATE_SIGNING_REQUESTS, MACHINE_IDENTITIES, NODES
from corral.kinds.status import StatusError
from corral.kinds.types import Obj


def request(organization: str, **spec: Any) -> Obj:
    pem = certificates.request_pem(certificates.new_key(), "system:node:m9", [organization])
    return {
        "kind": "CertificateSigningRequest",
        "apiVersion": "certificates.k8s.io/v1",
        "metadata": {"name": "r"},
        "spec": {
            "request": base64.b64encode(pem).decode(),
            "signerName": CLIENT,
            "usages": ["digital signature", "client auth"],
            **spec,
        },
    }


async def test_a_certificate_that_is_over_at_once_is_refused(cell: Any) -> None:
    for seconds in (-5, 0, 599):
        with pytest.raises(StatusError, match="less than 600 seconds"):
            await cell.client.create(CERTIFICATE_SIGNING_REQUESTS, request("system:nodes", expirationSeconds=seconds))


async def test_what_makes_no_machine_is_denied_for_good(cell: Any) -> None:
    await cell.client.create(CERTIFICATE_SIGNING_REQUESTS, request("system:masters"))
    denied = await cell.until(
        CERTIFICATE_SIGNING_REQUESTS, "r", lambda obj: conditions.is_true(obj, "Denied"), namespace=""
    )
    approved = {"type": "Approved", "status": "True", "reason": "ByHand", "message": "by hand"}
    both = {**denied["status"], "conditions": [*denied["status"]["conditions"], approved]}
    await cell.client.update(CERTIFICATE_SIGNING_REQUESTS, {**denied, "status": both}, "approval")
    later = request("system:masters")
    later["metadata"]["name"] = "later"
    await cell.client.create(CERTIFICATE_SIGNING_REQUESTS, later)
    await cell.until(CERTIFICATE_SIGNING_REQUESTS, "later", lambda obj: conditions.is_true(obj, "Denied"), namespace="")
    assert "certificate" not in (await cell.client.get(CERTIFICATE_SIGNING_REQUESTS, "r"))["status"]


def joiner(cell: Any, token: str = "abcdef") -> Client:
    user = User(f"system:bootstrap:{token}", ("system:bootstrappers", "system:authenticated"))
    return Client(InProcessTransport(cell.server, user))


async def signed(cell: Any, client: Client, name: str) -> Obj:
    """A request by `client` that has its certificate."""
    asked = request("system:nodes")
    asked["metadata"]["name"] = name
    await client.create(CERTIFICATE_SIGNING_REQUESTS, asked)
    found: Obj = await cell.until(
        CERTIFICATE_SIGNING_REQUESTS, name, lambda obj: (obj.get("status") or {}).get("certificate"), namespace=""
    )
    return found


async def uid_of_m9(cell: Any) -> str:
    return str((await cell.client.get(MACHINE_IDENTITIES, "m9"))["spec"]["uid"])


async def test_who_joins_is_the_machine_from_then_on(cell: Any) -> None:
    first = await signed(cell, joiner(cell), "first")
    assert await uid_of_m9(cell) == first["metadata"]["uid"]
    second = await signed(cell, joiner(cell), "second")
    assert await uid_of_m9(cell) == second["metadata"]["uid"] != first["metadata"]["uid"]


async def test_who_renews_stays_who_he_is(cell: Any) -> None:
    first = await signed(cell, joiner(cell), "first")
    user = User("system:node:m9", ("system:nodes", "system:authenticated"), uid=first["metadata"]["uid"])
    renewed = await signed(cell, Client(InProcessTransport(cell.server, user)), "renewed")
    assert uid_for(renewed) == await uid_of_m9(cell) == first["metadata"]["uid"]


async def test_a_token_does_not_get_the_name_of_a_machine_that_exists_even_if_it_is_dead(cell: Any) -> None:
    await signed(cell, joiner(cell), "first")
    before = await uid_of_m9(cell)
    await cell.client.create(NODES, {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "m9"}})
    asked = request("system:nodes")
    await joiner(cell).create(CERTIFICATE_SIGNING_REQUESTS, asked)
    denied = await cell.until(
        CERTIFICATE_SIGNING_REQUESTS, "r", lambda obj: conditions.is_true(obj, "Denied"), namespace=""
    )
    assert "corral machine remove m9" in conditions.get(denied, "Denied")["message"]  # type: ignore[index]
    assert await uid_of_m9(cell) == before


async def test_a_machine_that_is_removed_is_nobody_until_one_joins_again(cell: Any) -> None:
    await signed(cell, joiner(cell), "first")
    await cell.client.create(NODES, {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "m9"}})
    said: list[str] = []
    await remove_machine(cell.client, await cell.client.get(NODES, "m9"), said.append)
    assert await uid_of_m9(cell) == ""
    assert said == []
    with pytest.raises(StatusError, match="not found"):
        await cell.client.get(NODES, "m9")
    again = await signed(cell, joiner(cell), "again")
    assert await uid_of_m9(cell) == again["metadata"]["uid"]


async def test_no_machine_writes_identities(cell: Any) -> None:
    user = User("system:node:m9", ("system:nodes", "system:authenticated"))
    client = Client(InProcessTransport(cell.server, user))
    with pytest.raises(StatusError, match="cannot create"):
        await client.create(MACHINE_IDENTITIES, machineidentities.new("m9", "mine"))
    with pytest.raises(StatusError, match="cannot patch"):
        await client.patch(MACHINE_IDENTITIES, "m9", {"spec": {"uid": "mine"}})
