"""Admission of claims, volumes and pods with a runtime class: what is written into them, what is refused."""

from typing import Any

import pytest

from corral.apiserver.admission.api import Review
from corral.apiserver.admission.runtime_class import RuntimeClass
from corral.apiserver.admission.storage import DefaultStorageClass, StorageObjectInUseProtection
from corral.apiserver.auth.api import User
from corral.kinds.registry import Registry
from corral.kinds.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, Resource
from corral.testing.scheduling import pod
from corral.testing.storage import claim, storage_class, volume

REGISTRY = Registry.builtin()
DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}


class Objects:
    """What the server has."""

    def __init__(self, *objects: Obj) -> None:
        self.objects = list(objects)

    def find(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        found = [obj for obj in self.all(resource) if obj["metadata"]["name"] == name]
        return found[0] if found else None

    def all(self, resource: Resource, namespace: str = "") -> list[Obj]:
        return [obj for obj in self.objects if obj["kind"] == resource.kind]


def admitted(plugin: Any, resource: Resource, obj: Obj, *there: Obj) -> Obj:
    """The object as the plugin lets it in."""
    kind = REGISTRY.by_kind(resource.group, resource.version, resource.kind)
    assert kind is not None
    assert plugin.applies(kind, "CREATE", "")
    assert not plugin.applies(kind, "UPDATE", "")
    metadata = obj["metadata"]
    name, namespace = metadata["name"], metadata.get("namespace", "")
    review = Review("CREATE", kind, namespace, name, "", obj, None, User("ann"))
    plugin.mutate(review, Objects(*there))
    plugin.validate(review, Objects(*there))
    return obj


def asking(**spec: Any) -> Obj:
    wanted = claim("c", **spec)
    if "storageClassName" in spec and spec["storageClassName"] is None:
        del wanted["spec"]["storageClassName"]
    return wanted


def default(name: str) -> Obj:
    made = storage_class(name)
    made["metadata"]["annotations"] = DEFAULT
    return made


@pytest.mark.parametrize(
    ("asked", "classes", "expected"),
    [
        (asking(storageClassName=None), [default("a"), storage_class("b")], "a"),
        (asking(storageClassName=None), [storage_class("b")], None),
        (asking(storageClassName=""), [default("a")], ""),
        (asking(storageClassName="b"), [default("a")], "b"),
    ],
)
def test_a_claim_that_names_no_class_gets_the_default_one(asked: Obj, classes: list[Obj], expected: str | None) -> None:
    made = admitted(DefaultStorageClass(), PERSISTENT_VOLUME_CLAIMS, asked, *classes)
    assert made["spec"].get("storageClassName") == expected


def test_a_claim_whose_class_is_an_annotation_names_one() -> None:
    old = claim("c", annotations={"volume.beta.kubernetes.io/storage-class": "old"})
    del old["spec"]["storageClassName"]
    made = admitted(DefaultStorageClass(), PERSISTENT_VOLUME_CLAIMS, old, default("a"))
    assert "storageClassName" not in made["spec"]


@pytest.mark.parametrize(
    ("resource", "obj", "finalizer"),
    [
        (PERSISTENT_VOLUME_CLAIMS, claim("c"), "kubernetes.io/pvc-protection"),
        (PERSISTENT_VOLUMES, volume("v"), "kubernetes.io/pv-protection"),
    ],
)
def test_claims_and_volumes_are_held_from_their_beginning(resource: Resource, obj: Obj, finalizer: str) -> None:
    obj["metadata"]["finalizers"] = ["example.com/mine"]
    for _ in range(2):
        made = admitted(StorageObjectInUseProtection(), resource, obj)
        assert made["metadata"]["finalizers"] == ["example.com/mine", finalizer]
    kind = REGISTRY.by_kind(STORAGE_CLASSES.group, STORAGE_CLASSES.version, STORAGE_CLASSES.kind)
    assert kind is not None
    assert not StorageObjectInUseProtection().applies(kind, "CREATE", "")


HEAVY: Obj = {
    "kind": "RuntimeClass",
    "metadata": {"name": "heavy"},
    "overhead": {"podFixed": {"cpu": "250m"}},
    "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]},
}


def test_a_runtime_class_writes_its_overhead_and_its_machines_into_the_pod() -> None:
    made = admitted(RuntimeClass(), PODS, pod("p", runtimeClassName="heavy", nodeSelector={"a": "b"}), HEAVY)["spec"]
    assert made["overhead"] == {"cpu": "250m"}
    assert made["nodeSelector"] == {"a": "b", "vm": "yes"}
    assert made["tolerations"] == [{"key": "vm", "operator": "Exists"}]
    assert admitted(RuntimeClass(), PODS, {**pod("p"), "spec": made}, HEAVY)["spec"] == made
    assert "overhead" not in admitted(RuntimeClass(), PODS, pod("p"), HEAVY)["spec"]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (pod("p", runtimeClassName="none"), 'RuntimeClass "none" not found'),
        (pod("p", overhead={"cpu": "1"}), "without corresponding RuntimeClass defined Overhead"),
        (pod("p", runtimeClassName="heavy", overhead={"cpu": "1"}), "doesn't match RuntimeClass's defined Overhead"),
        (
            pod("p", runtimeClassName="heavy", nodeSelector={"vm": "no"}),
            "conflict: runtimeClass.scheduling.nodeSelector",
        ),
    ],
)
def test_what_does_not_go_with_a_runtime_class(wanted: Obj, why: str) -> None:
    with pytest.raises(StatusError, match=why):
        admitted(RuntimeClass(), PODS, wanted, HEAVY)
