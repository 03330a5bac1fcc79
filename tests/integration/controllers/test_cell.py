"""Namespaces, service accounts, garbage collection, pods and machines that vanish."""

from typing import Any

from corral.controllers.serviceaccounts.controller import ROOT_CA
from corral.kinds.resources import CONFIG_MAPS, CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS
from corral.kinds.types import Obj, Resource

WIDGETS = Resource("example.com", "v1", "widgets", "Widget", True)


def config_map(name: str, *owners: Obj, namespace: str = "default", blocks: bool = False) -> Obj:
    references = [
        {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": blocks,
        }
        for owner in owners
    ]
    metadata = {"name": name, "namespace": namespace, "ownerReferences": references}
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata}


def pod(name: str, namespace: str = "default") -> Obj:
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "c", "image": "host"}]},
    }


async def test_a_namespace_has_an_account_and_the_authority(cell: Any) -> None:
    await cell.client.create(NAMESPACES, {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "team"}})
    await cell.until(SERVICE_ACCOUNTS, "default", bool, "team")
    published = await cell.until(CONFIG_MAPS, ROOT_CA, bool, "team")
    assert published["data"] == {"ca.crt": "PEM"}
    await cell.client.delete(CONFIG_MAPS, ROOT_CA, "team")
    again = await cell.until(
        CONFIG_MAPS, ROOT_CA, lambda obj: obj["metadata"]["uid"] != published["metadata"]["uid"], "team"
    )
    await cell.client.patch(CONFIG_MAPS, ROOT_CA, {"data": {"ca.crt": "forged"}}, "team")
    await cell.until(
        CONFIG_MAPS,
        ROOT_CA,
        lambda obj: (
            obj["data"]["ca.crt"] == "PEM"
            and obj["metadata"]["resourceVersion"] != again["metadata"]["resourceVersion"]
        ),
        "team",
    )


async def test_a_deleted_namespace_takes_everything_along(cell: Any) -> None:
    await cell.client.create(NAMESPACES, {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "team"}})
    await cell.until(SERVICE_ACCOUNTS, "default", bool, "team")
    await cell.client.create(CONFIG_MAPS, config_map("data", namespace="team"))
    await cell.client.create(PODS, pod("p", "team"))
    await cell.until(PODS, "p", lambda obj: obj.get("status", {}).get("phase") == "Running", "team")
    await cell.client.delete(NAMESPACES, "team")
    await cell.until_gone(NAMESPACES, "team", "")
    for resource in (PODS, CONFIG_MAPS, SERVICE_ACCOUNTS):
        assert (await cell.client.list(resource, "team"))["items"] == []


async def test_a_finalizer_holds_the_namespace_and_is_named(cell: Any) -> None:
    await cell.client.create(NAMESPACES, {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "team"}})
    held = config_map("held", namespace="team")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await cell.client.create(CONFIG_MAPS, held)
    await cell.client.delete(NAMESPACES, "team")

    def says_so(obj: Obj) -> bool:
        conditions = {c["type"]: c for c in obj.get("status", {}).get("conditions", ())}
        found = conditions.get("NamespaceFinalizersRemaining", {})
        return found.get("status") == "True" and "example.com/hold in 1 resource instances" in found["message"]

    await cell.until(NAMESPACES, "team", says_so, "")
    await cell.client.patch(CONFIG_MAPS, "held", {"metadata": {"finalizers": None}}, "team")
    await cell.until_gone(NAMESPACES, "team", "")


async def test_dependents_follow_the_last_of_their_owners(cell: Any) -> None:
    one = await cell.client.create(CONFIG_MAPS, config_map("one"))
    two = await cell.client.create(CONFIG_MAPS, config_map("two"))
    await cell.client.create(CONFIG_MAPS, config_map("child", one, two))
    await cell.client.delete(CONFIG_MAPS, "one", "default")
    await cell.until(CONFIG_MAPS, "child", lambda obj: len(obj["metadata"]["ownerReferences"]) == 1)
    await cell.client.delete(CONFIG_MAPS, "two", "default")
    await cell.until_gone(CONFIG_MAPS, "child")


async def test_a_dependent_of_an_owner_that_never_was_goes(cell: Any) -> None:
    ghost: Obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ghost", "uid": "no-such-uid"}}
    await cell.client.create(CONFIG_MAPS, config_map("child", ghost))
    await cell.until_gone(CONFIG_MAPS, "child")


async def test_an_owner_in_another_namespace_does_not_count(cell: Any) -> None:
    await cell.client.create(NAMESPACES, {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "team"}})
    far = await cell.client.create(CONFIG_MAPS, config_map("far", namespace="team"))
    await cell.client.create(CONFIG_MAPS, config_map("child", far))
    await cell.until_gone(CONFIG_MAPS, "child")


async def test_foreground_deletion_waits_for_blocking_dependents(cell: Any) -> None:
    owner = await cell.client.create(CONFIG_MAPS, config_map("owner"))
    child = config_map("child", owner, blocks=True)
    child["metadata"]["finalizers"] = ["example.com/hold"]
    await cell.client.create(CONFIG_MAPS, child)
    await cell.client.delete(CONFIG_MAPS, "owner", "default", propagation="Foreground")
    await cell.until(CONFIG_MAPS, "child", lambda obj: obj["metadata"].get("deletionTimestamp"))
    assert (await cell.client.get(CONFIG_MAPS, "owner", "default"))["metadata"]["finalizers"] == ["foregroundDeletion"]
    await cell.client.patch(CONFIG_MAPS, "child", {"metadata": {"finalizers": None}}, "default")
    await cell.until_gone(CONFIG_MAPS, "owner")


async def test_custom_objects_are_collected_too(cell: Any) -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    crd: Obj = {
        "kind": "CustomResourceDefinition",
        "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    await cell.client.create(CUSTOM_RESOURCE_DEFINITIONS, crd)
    await cell.until(
        CUSTOM_RESOURCE_DEFINITIONS,
        "widgets.example.com",
        lambda obj: any(c["type"] == "Established" for c in obj.get("status", {}).get("conditions", ())),
        "",
    )
    widget: Obj = {"kind": "Widget", "apiVersion": "example.com/v1", "metadata": {"name": "w", "namespace": "default"}}
    owner = await cell.client.create(WIDGETS, widget)
    await cell.client.create(CONFIG_MAPS, config_map("child", owner))
    await cell.client.delete(WIDGETS, "w", "default")
    await cell.until_gone(CONFIG_MAPS, "child")


async def test_a_pod_deleted_before_it_was_scheduled_goes(cell: Any) -> None:
    held = pod("waiting")
    held["spec"]["schedulingGates"] = [{"name": "example.com/gate"}]
    cell.kubelet.machine = ""
    await cell.client.create(PODS, held)
    await cell.client.delete(PODS, "waiting", "default")
    await cell.until_gone(PODS, "waiting")


async def test_a_machine_without_conditions_is_tainted_and_recovers(cell: Any) -> None:
    def keys(obj: Obj) -> set[str]:
        return {taint["key"] for taint in obj["spec"].get("taints", ())}

    await cell.until(NODES, "m1", lambda obj: "node.kubernetes.io/unreachable" in keys(obj), "")
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    await cell.client.patch(NODES, "m1", ready, subresource="status")
    await cell.until(NODES, "m1", lambda obj: not keys(obj), "")
    await cell.client.patch(NODES, "m1", {"spec": {"unschedulable": True}})
    await cell.until(NODES, "m1", lambda obj: keys(obj) == {"node.kubernetes.io/unschedulable"}, "")
