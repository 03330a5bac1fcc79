"""Patches, apply and tables on the schemas of the real registry."""

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from corral.kinds.apply import apply, track
from corral.kinds.kind import Kind
from corral.kinds.patch import strategic_merge_patch
from corral.kinds.registry import Registry
from corral.kinds.tables import table
from corral.kinds.types import Obj

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.builtin()


def kind(registry: Registry, group: str, plural: str) -> Kind:
    found = registry.get(group, "v1", plural)
    assert found is not None
    return found


def deployment(**pod_spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"spec": pod_spec}},
    }


def test_a_volume_changes_its_type_as_kubectl_apply_asks(registry: Registry) -> None:
    schema = kind(registry, "apps", "deployments").schema
    live = deployment(volumes=[{"name": "v", "emptyDir": {}}, {"name": "w", "hostPath": {"path": "/"}}])
    volume = {"$retainKeys": ["configMap", "name"], "configMap": {"name": "c"}, "emptyDir": None, "name": "v"}
    added = {"$retainKeys": ["emptyDir", "name"], "emptyDir": {}, "name": "x"}
    change = {"$setElementOrder/volumes": [{"name": "v"}, {"name": "x"}], "volumes": [volume, added]}
    patched = strategic_merge_patch(schema, live, {"spec": {"template": {"spec": change}}})
    assert patched["spec"]["template"]["spec"]["volumes"] == [
        {"name": "v", "configMap": {"name": "c"}},
        {"name": "x", "emptyDir": {}},
        {"name": "w", "hostPath": {"path": "/"}},
    ]


def test_ports_are_patched_by_number_and_owned_by_number_and_protocol(registry: Registry) -> None:
    schema = kind(registry, "", "services").schema
    service: Obj = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 80}]},
    }
    patched = strategic_merge_patch(schema, service, {"spec": {"ports": [{"port": 80, "name": "http"}]}})
    assert patched["spec"]["ports"] == [{"port": 53, "protocol": "UDP"}, {"port": 80, "name": "http"}]
    made = apply(schema, None, service, manager="m", force=False, now=NOW)
    owned = made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:ports"]
    assert set(owned) == {'k:{"port":53,"protocol":"UDP"}', 'k:{"port":80,"protocol":"TCP"}'}


def test_apply_of_a_defaulted_deployment_is_a_no_op(registry: Registry) -> None:
    schema = kind(registry, "apps", "deployments").schema
    config = deployment(containers=[{"name": "web", "image": "i", "ports": [{"containerPort": 80}]}])
    live = apply(schema, None, config, manager="m", force=False, now=NOW)
    schema.default(live)
    before = deepcopy(live)
    assert apply(schema, live, config, manager="m", force=False, now=NOW) == before
    assert live == before


def test_defaults_belong_to_who_creates(registry: Registry) -> None:
    schema = kind(registry, "apps", "deployments").schema
    created = deployment(containers=[{"name": "web", "image": "i"}])
    schema.default(created)
    track(schema, None, created, manager="kubectl-create", now=NOW)
    owned = created["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    assert {"f:replicas", "f:selector", "f:strategy", "f:template"} <= owned.keys()
    assert "." not in owned
    assert "f:imagePullPolicy" in owned["f:template"]["f:spec"]["f:containers"]['k:{"name":"web"}']


def test_opaque_values_are_owned_whole(registry: Registry) -> None:
    schema = kind(registry, "apps", "controllerrevisions").schema
    revision: Obj = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {"name": "r"},
        "data": {"spec": {"a": 1}},
        "revision": 1,
    }
    track(schema, None, revision, manager="m", now=NOW)
    assert revision["metadata"]["managedFields"][0]["fieldsV1"] == {"f:data": {}, "f:revision": {}}


def test_every_kind_has_a_table(registry: Registry) -> None:
    for each in registry.kinds():
        made = table(each, [{"metadata": {"name": "x"}}], now=NOW)
        assert len(made["rows"][0]["cells"]) == len(made["columnDefinitions"])
