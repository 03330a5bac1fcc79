"""Which kinds there are, and CRDs coming and going."""

import pytest

from corral.kinds import crd as crds
from corral.kinds import resources
from corral.kinds.bundled import bundled
from corral.kinds.registry import Registry, version_priority
from corral.kinds.types import Resource

from .samples import crd


def test_every_resource_that_rooms_name_is_there() -> None:
    registry = Registry.builtin()
    named = [value for value in vars(resources).values() if isinstance(value, Resource)]
    assert named
    for file in bundled():
        registry.install_crd(file.parse())
    for resource in named:
        kind = registry.get(resource.group, resource.version, resource.plural)
        assert kind is not None
        assert kind.resource == resource
        assert registry.by_kind(resource.group, resource.version, resource.kind) is kind


def test_every_kind_has_a_schema_with_metadata_it_can_look_into(registry: Registry) -> None:
    for kind in registry.kinds():
        assert kind.schema.field("metadata") is not None, kind.resource
        assert kind.schema.field("kind") is not None


@pytest.mark.parametrize(
    ("group", "plural", "short", "namespaced"),
    [
        ("", "pods", "po", True),
        ("", "persistentvolumeclaims", "pvc", True),
        ("", "nodes", "no", False),
        ("apps", "deployments", "deploy", True),
        ("batch", "cronjobs", "cj", True),
        ("storage.k8s.io", "storageclasses", "sc", False),
    ],
)
def test_names_and_scope(registry: Registry, group: str, plural: str, short: str, namespaced: bool) -> None:
    kind = registry.get(group, "v1", plural)
    assert kind is not None
    assert short in kind.short_names
    assert kind.resource.namespaced is namespaced


def test_all_is_what_kubectl_get_all_shows(registry: Registry) -> None:
    shown = {kind.resource.plural for kind in registry.kinds() if "all" in kind.categories}
    assert shown == {
        *("pods", "services", "replicationcontrollers", "deployments", "replicasets", "statefulsets"),
        *("daemonsets", "jobs", "cronjobs", "horizontalpodautoscalers"),
    }


def test_the_preferred_version_is_first(registry: Registry) -> None:
    assert registry.groups()["autoscaling"] == ["v2", "v1"]
    old = registry.get("autoscaling", "v1", "horizontalpodautoscalers")
    assert old is not None
    assert old.stored_as == "autoscaling/v2"
    events = registry.get("events.k8s.io", "v1", "events")
    assert events is not None
    assert events.stored_as == "v1"


def test_versions_sort_as_discovery_prefers_them() -> None:
    wanted = ["v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "foo"]
    assert sorted(wanted, key=version_priority) == wanted


def test_a_crd_comes_and_goes() -> None:
    registry = Registry.builtin()
    registry.install_crd(
        crd(subresources={"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}})
    )
    kind = registry.get("stable.example.com", "v1", "crontabs")
    assert kind is not None
    assert kind.custom
    assert kind.list_kind == "CronTabList"
    assert kind.subresources == {"status", "scale"}
    assert kind.scale_paths == {"spec": "spec.n", "status": "status.n"}
    assert registry.generation == 1
    registry.remove_crd("crontabs.stable.example.com")
    assert registry.get("stable.example.com", "v1", "crontabs") is None
    assert registry.generation == 2
    registry.remove_crd("crontabs.stable.example.com")
    assert registry.generation == 2


def test_names_conflict_with_another_crd_but_not_with_oneself() -> None:
    registry = Registry.builtin()
    first = crd()
    registry.install_crd(first)
    assert [condition["status"] for condition in crds.conditions(first, registry)] == ["True", "True"]
    second = crd()
    second["metadata"]["name"] = "others.stable.example.com"
    second["spec"]["names"] = {"plural": "others", "kind": "Other", "shortNames": ["ct"]}
    told = crds.conditions(second, registry)
    assert told[0]["reason"] == "ShortNamesConflict"
    assert told[0]["message"] == '"ct" is already in use by crontabs.stable.example.com'
    assert [condition["status"] for condition in told] == ["False", "False"]
