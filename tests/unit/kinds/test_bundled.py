"""The definitions that come with Corral are sound, and their two versions carry over into each other."""

from typing import Any

import pytest

from corral.apiserver.conversion import convert
from corral.kinds.bundled import ANNOTATION, Bundled, bundled
from corral.kinds.crd import check_definition
from corral.kinds.registry import Registry
from corral.kinds.resources import (
    CLUSTER_QUEUES,
    COHORTS,
    CUSTOM_RESOURCE_DEFINITIONS,
    LOCAL_QUEUES,
    RESOURCE_FLAVORS,
    WORKLOAD_PRIORITY_CLASSES,
    WORKLOADS,
)
from corral.kinds.types import Obj, Resource

FILES = list(bundled())


def older(resource: Resource) -> Resource:
    return Resource(resource.group, "v1beta1", resource.plural, resource.kind, resource.namespaced)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_definition_is_structural_complete_and_needs_no_cel(file: Bundled) -> None:
    kind = Registry.builtin().get("apiextensions.k8s.io", "v1", CUSTOM_RESOURCE_DEFINITIONS.plural)
    assert kind is not None
    crd = file.parse()
    kind.schema.default(crd)
    assert crd["metadata"]["name"] == file.name
    assert crd["metadata"]["annotations"][ANNOTATION] == str(file.number)
    assert check_definition(crd, None) == []
    assert list(kind.schema.prune(crd, ())) == []
    assert list(kind.schema.validate(crd, ())) == []
    assert "x-kubernetes-validations" not in file.text


def test_queues_are_known_by_the_names_that_code_uses() -> None:
    registry = Registry.builtin()
    for file in FILES:
        registry.install_crd(file.parse())
    for resource in (
        CLUSTER_QUEUES,
        COHORTS,
        LOCAL_QUEUES,
        RESOURCE_FLAVORS,
        WORKLOADS,
        WORKLOAD_PRIORITY_CLASSES,
    ):
        kind = registry.get(resource.group, resource.version, resource.plural)
        assert kind is not None
        assert kind.resource == resource
        assert registry.get(resource.group, "v1beta1", resource.plural) is not None


@pytest.mark.parametrize(
    ("resource", "old", "new"),
    [
        (CLUSTER_QUEUES, {"spec": {"cohort": "a"}}, {"spec": {"cohortName": "a"}}),
        (
            CLUSTER_QUEUES,
            {"spec": {"admissionChecks": ["x"]}},
            {"spec": {"admissionChecksStrategy": {"admissionChecks": [{"name": "x"}]}}},
        ),
        (
            CLUSTER_QUEUES,
            {"spec": {"flavorFungibility": {"whenCanBorrow": "Borrow", "whenCanPreempt": "Preempt"}}},
            {"spec": {"flavorFungibility": {"whenCanBorrow": "MayStopSearch", "whenCanPreempt": "MayStopSearch"}}},
        ),
        (LOCAL_QUEUES, {"status": {"flavorUsage": [1]}}, {"status": {"flavorsUsage": [1]}}),
        (
            WORKLOADS,
            {
                "spec": {
                    "priorityClassName": "high",
                    "priorityClassSource": "kueue.x-k8s.io/workloadpriorityclass",
                }
            },
            {
                "spec": {
                    "priorityClassRef": {"group": "kueue.x-k8s.io", "kind": "WorkloadPriorityClass", "name": "high"}
                }
            },
        ),
        (COHORTS, {"spec": {"parentName": "all"}}, {"spec": {"parentName": "all"}}),
    ],
)
def test_v1beta1_becomes_v1beta2(resource: Resource, old: Obj, new: Obj) -> None:
    assert convert(dict(old), older(resource), resource) == {"apiVersion": "kueue.x-k8s.io/v1beta2", **new}


def test_what_v1beta2_can_say_in_v1beta1_comes_back_unchanged() -> None:
    objects: list[tuple[Resource, dict[str, Any]]] = [
        (CLUSTER_QUEUES, {"spec": {"cohortName": "a", "queueingStrategy": "StrictFIFO"}, "status": {"conditions": []}}),
        (LOCAL_QUEUES, {"spec": {"clusterQueue": "q"}, "status": {"flavorsUsage": []}}),
        (
            WORKLOADS,
            {
                "spec": {"priorityClassRef": {"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": "p"}},
                "status": {"accumulatedPastExecutionTimeSeconds": 5},
            },
        ),
    ]
    for resource, obj in objects:
        obj = {"apiVersion": resource.api_version, **obj}
        assert convert(convert(dict(obj), resource, older(resource)), older(resource), resource) == obj
