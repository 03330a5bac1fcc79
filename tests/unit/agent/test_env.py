"""Environments as Kubernetes builds them."""

import base64
from typing import Any

import pytest

from corral.agent.env import ConfigError, Surroundings, environment, expand, field_value, references, resource_value
from corral.kinds.types import Obj

POD: Obj = {
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "uid": "u1",
        "labels": {"app": "web", "tier": 'fr"ont'},
        "annotations": {"note": "a\nb"},
    },
    "spec": {"serviceAccountName": "robot", "containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m"}}}]},
}
AROUND = Surroundings(
    pod_addresses=("10.0.0.5", "fd00::5"),
    host_addresses=("192.0.2.1",),
    node_name="m1",
    allocatable={"cpu": 4000, "memory": 8 << 30},
    service_host="192.0.2.1",
    service_port=6443,
    config_maps={"paint": {"data": {"color": "red", "bad key": "x"}}, "none": None},
    secrets={"key": {"data": {"pass": base64.b64encode(b"s3").decode()}}},
)


def env(*entries: Obj, sources: list[Obj] | None = None) -> dict[str, str]:
    found = dict(environment(POD, {"name": "c", "env": list(entries), "envFrom": sources or []}, AROUND))
    return {name: value for name, value in found.items() if not name.startswith("KUBERNETES")}


def ref(name: str, **source: Any) -> Obj:
    return {"name": name, "valueFrom": source}


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("$(A)-$(B)", "1-2"),
        ("$$(A)", "$(A)"),
        ("$(MISSING)", "$(MISSING)"),
        ("$A $ ${A}", "$A $ ${A}"),
        ("$(A", "$(A"),
        ("$$$(A)", "$1"),
        ("", ""),
    ],
)
def test_expansion(text: str, meaning: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == meaning


def test_later_ones_see_earlier_ones_and_win() -> None:
    assert env({"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2$(C)"}, {"name": "A", "value": "3"}) == {
        "A": "3",
        "B": "12$(C)",
    }


def test_the_api_server_is_told_and_can_be_referred_to() -> None:
    found = dict(environment(POD, {"name": "c", "env": [{"name": "U", "value": "$(KUBERNETES_SERVICE_HOST)"}]}, AROUND))
    assert (found["KUBERNETES_SERVICE_HOST"], found["KUBERNETES_SERVICE_PORT"]) == ("192.0.2.1", "6443")
    assert found["U"] == "192.0.2.1"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u1"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['missing']", ""),
        ("metadata.labels", 'app="web"\ntier="fr\\"ont"'),
        ("metadata.annotations", 'note="a\\nb"'),
        ("spec.nodeName", "m1"),
        ("spec.serviceAccountName", "robot"),
        ("status.podIP", "10.0.0.5"),
        ("status.podIPs", "10.0.0.5,fd00::5"),
        ("status.hostIP", "192.0.2.1"),
    ],
)
def test_fields(path: str, value: str) -> None:
    assert field_value(POD, path, AROUND) == value


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"resource": "limits.cpu"}, "2"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "limits.memory", "divisor": "1Mi"}, "8192"),
        ({"resource": "requests.memory"}, "0"),
        ({"resource": "limits.cpu", "containerName": "c", "divisor": "0"}, "2"),
    ],
)
def test_resources(reference: Obj, value: str) -> None:
    assert resource_value(POD, reference, AROUND, POD["spec"]["containers"][0]) == value


def test_keys_of_config_maps_and_secrets() -> None:
    assert env(
        ref("COLOR", configMapKeyRef={"name": "paint", "key": "color"}),
        ref("PASS", secretKeyRef={"name": "key", "key": "pass"}),
        ref("NO", configMapKeyRef={"name": "none", "key": "x", "optional": True}),
        ref("NOR", secretKeyRef={"name": "key", "key": "x", "optional": True}),
    ) == {"COLOR": "red", "PASS": "s3"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "x"}}, 'configmap "none" not found'),
        ({"configMapKeyRef": {"name": "paint", "key": "x"}}, "couldn't find key x in ConfigMap shop/paint"),
        ({"secretKeyRef": {"name": "nokey", "key": "x"}}, 'secret "nokey" not found'),
        ({"fieldRef": {"fieldPath": "spec.color"}}, "unsupported fieldPath"),
        ({"resourceFieldRef": {"resource": "color.cpu"}}, "unsupported container resource"),
        ({"strange": {}}, "names no source"),
    ],
)
def test_what_is_missing_is_named(source: Obj, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        env(ref("X", **source))


def test_whole_objects_with_prefix_and_bad_keys_left_out() -> None:
    sources: list[Obj] = [{"prefix": "P_", "configMapRef": {"name": "paint"}}, {"secretRef": {"name": "key"}}]
    assert env({"name": "pass", "value": "own"}, sources=sources) == {"P_color": "red", "pass": "own"}
    assert env(sources=[{"configMapRef": {"name": "none", "optional": True}}]) == {}
    with pytest.raises(ConfigError, match="not found"):
        env(sources=[{"configMapRef": {"name": "none"}}])


def test_references_are_found() -> None:
    container = {
        "env": [ref("A", configMapKeyRef={"name": "a"}), ref("B", secretKeyRef={"name": "b"}), {"name": "C"}],
        "envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "d"}}],
    }
    assert references(POD, container) == ({"a", "c"}, {"b", "d"})
