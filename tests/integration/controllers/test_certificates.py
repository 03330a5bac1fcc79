"""Requests for certificates, through a real API."""

import base64
from typing import Any

import pytest

from corral.apiserver.auth import certificates
from corral.controllers.certificates.plan import CLIENT
from corral.kinds import conditions
from corral.kinds.resources import CERTIFICATE_SIGNING_REQUESTS
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
