"""Who gets which certificate."""

import base64
from collections.abc import Sequence
from datetime import timedelta

import pytest

from corral.apiserver.auth import certificates
from corral.base.clock import rfc3339
from corral.controllers.certificates.plan import CLIENT, SERVING, Deny, Grant, Machines, forget_in, judge, read, to_sign
from corral.kinds.types import Obj
from corral.testing.clock import EPOCH

KEY = certificates.new_key()
MACHINES = Machines(exists=lambda name: name == "there", addresses_of_others=lambda name: frozenset({"10.0.0.9"}))
CLIENT_USE, SERVER_USE = ("digital signature", "client auth"), ("digital signature", "server auth")


def request(
    name: str = "m1",
    *,
    signer: str = CLIENT,
    user: str = "system:bootstrap:abcdef",
    groups: Sequence[str] = ("system:bootstrappers",),
    organizations: Sequence[str] = ("system:nodes",),
    hosts: Sequence[str] = (),
    usages: Sequence[str] = CLIENT_USE,
    prefix: str = "system:node:",
) -> Obj:
    pem = certificates.request_pem(KEY, prefix + name, organizations, hosts)
    spec = {
        "request": base64.b64encode(pem).decode(),
        "signerName": signer,
        "username": user,
        "groups": list(groups),
        "usages": list(usages),
    }
    return {"metadata": {"name": "r", "creationTimestamp": rfc3339(EPOCH)}, "spec": spec}


def serving(*hosts: str, user: str = "system:node:m1") -> Obj:
    return request(signer=SERVING, user=user, groups=("system:nodes",), hosts=hosts, usages=SERVER_USE)


@pytest.mark.parametrize(
    "one",
    [
        request(),
        request("dead"),
        request(usages=("key encipherment", *CLIENT_USE)),
        request(user="system:node:m1", groups=("system:nodes",)),
        # It renews its own although it is there.
        request("there", user="system:node:there", groups=("system:nodes",)),
        serving("m1", "10.0.0.1"),
        serving("::2"),
    ],
)
def test_what_an_agent_asks_for_is_granted(one: Obj) -> None:
    assert judge(one, MACHINES) == Grant()


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (request("there"), "corral machine remove there"),
        (request(groups=("system:authenticated",), user="eve"), "only it and bootstrap"),
        (request(user="system:node:m2", groups=("system:nodes",)), "only it and"),
        (request(organizations=("system:masters",)), "subject must be"),
        (request(organizations=("system:nodes", "system:masters")), "subject must be"),
        (request("admin", prefix=""), "subject must be"),
        (request(""), "subject must be"),
        (request(hosts=("m1",)), "no names or addresses"),
        (request(usages=(*CLIENT_USE, "cert sign")), "usages must be"),
        (request(usages=SERVER_USE), "usages must be"),
        (serving(), "needs a name or an address"),
        (serving("10.0.0.9"), "that of another machine"),
        (serving("m2"), "not the machine's own"),
        (serving("127.0.0.1"), "the cell's server"),
        (serving("::1"), "the cell's server"),
        (serving("kubernetes.default"), "the cell's server"),
        (request("../x"), "no name of a machine"),
        (request("M1"), "no name of a machine"),
        (serving("m1", user="system:node:m2"), "itself may ask"),
    ],
)
def test_everything_else_is_denied_with_the_reason(one: Obj, why: str) -> None:
    answer = judge(one, MACHINES)
    assert isinstance(answer, Deny)
    assert why in answer.message


def test_a_machine_cannot_call_itself_what_the_server_is_called() -> None:
    name = "kubernetes.default.svc"
    own = request(
        name, signer=SERVING, user=f"system:node:{name}", groups=("system:nodes",), hosts=(name,), usages=SERVER_USE
    )
    answer = judge(own, MACHINES)
    assert isinstance(answer, Deny)
    assert "the cell's server" in answer.message


def test_what_has_another_form_is_not_signed_whoever_approves_it() -> None:
    with pytest.raises(ValueError, match="subject must be"):
        read(request(organizations=("system:masters",))["spec"])
    assert read(serving("m1", "10.0.0.1")["spec"]) == ("m1", ["m1", "10.0.0.1"])


def test_requests_to_other_signers_and_answered_ones_are_left_alone() -> None:
    assert judge(request(signer="example.com/mine"), MACHINES) is None
    answered = request()
    answered["status"] = {"conditions": [{"type": "Denied", "status": "True"}]}
    assert judge(answered, MACHINES) is None
    garbled = request()
    garbled["spec"]["request"] = "bm9uc2Vuc2U="
    assert isinstance(judge(garbled, MACHINES), Deny)


def test_what_was_approved_is_signed_once_and_forgotten_later() -> None:
    one = request()
    assert not to_sign(one)
    one["status"] = {"conditions": [{"type": "Approved", "status": "True"}]}
    assert to_sign(one)
    assert not to_sign({**one, "status": {"conditions": [*one["status"]["conditions"], {"type": "Denied"}]}})
    one["status"]["certificate"] = "eA=="
    assert not to_sign(one)
    assert forget_in(one, EPOCH) == 3600
    assert forget_in(request(), EPOCH + timedelta(hours=24)) == 0
