"""New objects of one template: what is remembered of a spec is what the long way would have made of it."""

from copy import deepcopy
from typing import Any

import orjson
import pytest

from corral.apiserver.alike import again, settle, share
from corral.apiserver.auth.api import ANONYMOUS
from corral.apiserver.context import Call
from corral.apiserver.rendering import encode, unrevised
from corral.kinds.kind import Kind
from corral.kinds.registry import Registry
from corral.kinds.types import Obj
from corral.testing.scheduling import pod


def kind(group: str, plural: str) -> Kind:
    found = Registry.builtin().get(group, "v1", plural)
    assert found is not None
    return found


PODS = kind("", "pods")
LIMITED = pod("limited", hostNetwork=True, nodeSelector={"a": "b"}, serviceAccountName="me")
LIMITED["spec"]["containers"][0] |= {"resources": {"limits": {"cpu": "1000m"}}, "ports": [{"containerPort": 80}]}
JOB: Obj = {
    "kind": "Job",
    "apiVersion": "batch/v1",
    "metadata": {"name": "j"},
    "spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": LIMITED["spec"] | {"restartPolicy": "Never"}}},
}


def long_way(kind: Kind, obj: Obj) -> Obj:
    made = deepcopy(obj)
    assert kind.schema.prune(made) == []
    kind.schema.default(made)
    assert kind.schema.validate(made) == []
    return made


@pytest.mark.parametrize(
    ("kind", "obj"),
    [(PODS, pod("plain", cpu="0.5", memory="1024Mi")), (PODS, LIMITED), (kind("batch", "jobs"), JOB)],
)
def test_a_settled_object_equals_that_of_the_long_way(kind: Kind, obj: Obj) -> None:
    for _ in range(2):
        short = deepcopy(obj)
        settled = settle(kind, short)
        assert settled == {"spec"}
        assert kind.schema.prune(short, settled) == []
        kind.schema.default(short, settled)
        assert kind.schema.validate(short, settled) == []
        assert short == long_way(kind, obj)


def test_settled_objects_share_nothing() -> None:
    one, other = pod("one", cpu="1"), pod("other", cpu="1")
    settle(PODS, one)
    settle(PODS, other)
    one["spec"]["containers"][0]["name"] = "changed"
    assert other["spec"]["containers"][0]["name"] == "main"
    third = pod("third", cpu="1")
    settle(PODS, third)
    assert third["spec"] == other["spec"]


@pytest.mark.parametrize(
    "change",
    [{"nosuchfield": 1}, {"containers": "none"}, {"containers": [{"image": "x"}]}, {"priority": 1 << 70}],
)
def test_a_spec_of_which_anything_is_to_be_said_goes_the_long_way(change: dict[str, Any]) -> None:
    obj = pod("p")
    obj["spec"] |= change
    before = deepcopy(obj)
    assert settle(PODS, obj) == ()
    assert obj == before


def test_no_spec_and_custom_kinds_go_the_long_way() -> None:
    assert settle(kind("", "configmaps"), {"metadata": {"name": "c"}, "data": {}}) == ()
    assert settle(PODS, {"metadata": {"name": "p"}, "spec": []}) == ()


def test_what_reads_the_same_is_stored_once_and_byte_for_byte() -> None:
    first, first_value = share(unrevised(pod("one", cpu="1")))
    second, second_value = share(unrevised(pod("other", cpu="1")))
    assert first["spec"] is second["spec"]
    assert (first, second) == (unrevised(pod("one", cpu="1")), unrevised(pod("other", cpu="1")))
    assert (first_value, second_value) == (encode(first), encode(second))
    bare: Obj = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"a": "b"}}
    assert share(bare) == (bare, encode(bare))


def unnamed(**metadata: Any) -> Obj:
    return pod("p", cpu="0.5") | {"metadata": {"generateName": "p-", "labels": {"a": "b"}, **metadata}}


def call(obj: Obj, content_type: str = "application/json") -> Call:
    return Call("POST", "/api/v1/namespaces/n/pods", ANONYMOUS, {}, orjson.dumps(obj), content_type)


def test_a_body_sent_again_is_what_the_long_way_made_of_it_and_shares_nothing() -> None:
    first, second = again(PODS, call(unnamed())), again(PODS, call(unnamed()))
    assert first == second == long_way(PODS, unnamed())
    assert first is not None
    first["metadata"]["labels"]["a"] = first["spec"]["containers"][0]["name"] = "changed"
    assert again(PODS, call(unnamed())) == second


@pytest.mark.parametrize(
    "sent",
    [
        call(pod("named")),
        call(unnamed() | {"unknown": 1}),
        call(unnamed() | {"kind": "Secret"}),
        call(unnamed(labels={"a": 1})),
        call(unnamed() | {"spec": {"containers": [{"image": "x"}]}}),
        call(unnamed(), "application/yaml"),
        Call("POST", "/", ANONYMOUS, {}, b'{"metadata": {"generateName": "a", "generateName": "b"}}'),
        Call("POST", "/", ANONYMOUS, {}, b'{"metadata": {"generateName": '),
    ],
)
def test_a_body_of_which_anything_is_to_be_said_goes_the_long_way_each_time(sent: Call) -> None:
    assert again(PODS, sent) is None
    assert again(PODS, sent) is None
