from typing import Any

import pytest

from corral.apiserver.auth.api import Attributes, User
from corral.apiserver.auth.node import NodeAuthorizer, selects
from corral.apiserver.auth.node_restriction import node_restriction
from corral.kinds.status import StatusError
from corral.store.memory import MemoryStore

A = User("system:node:a", ("system:nodes", "system:authenticated"))
CORRAL = "corral.dev"


def pod(name: str, node: str, **spec: Any) -> dict[str, Any]:
    uid = f"uid-{name}"
    return {"metadata": {"name": name, "namespace": "ns", "uid": uid}, "spec": {"nodeName": node, **spec}}


RICH = pod(
    "rich",
    "a",
    serviceAccountName="robot",
    imagePullSecrets=[{"name": "pull"}],
    containers=[
        {
            "env": [
                {"name": "X", "valueFrom": {"secretKeyRef": {"name": "env-secret", "key": "k"}}},
                {"name": "Y", "value": "plain"},
            ],
            "envFrom": [{"configMapRef": {"name": "env-map"}}],
        }
    ],
    initContainers=[{"envFrom": [{"secretRef": {"name": "init-secret"}}]}],
    volumes=[
        {"name": "s", "secret": {"secretName": "vol-secret"}},
        {"name": "c", "configMap": {"name": "vol-map"}},
        {"name": "p", "persistentVolumeClaim": {"claimName": "claim"}},
        {"name": "e", "ephemeral": {}},
        {
            "name": "j",
            "projected": {"sources": [{"secret": {"name": "pro-secret"}}, {"configMap": {"name": "pro-map"}}]},
        },
        {"name": "w", "csi": {"driver": "source.corral.dev", "volumeAttributes": {"digest": "abc"}}},
    ],
)
OTHER = pod("other", "b", volumes=[{"name": "s", "secret": {"secretName": "other-secret"}}])


@pytest.fixture
async def authorizer(store: MemoryStore, put: Any) -> NodeAuthorizer:
    await put("core", "pods", RICH)
    await put("core", "pods", OTHER)
    return NodeAuthorizer(store)


def may(authorizer: NodeAuthorizer, verb: str, resource: str, name: str = "", namespace: str = "ns", **kw: str) -> bool:
    resource, _, subresource = resource.partition("/")
    attributes = Attributes(verb, kw.pop("group", ""), resource, subresource, namespace, name, **kw)
    return authorizer.authorize(A, attributes).allowed


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        ("secrets", "pull"),
        ("secrets", "env-secret"),
        ("secrets", "init-secret"),
        ("secrets", "vol-secret"),
        ("secrets", "pro-secret"),
        ("configmaps", "env-map"),
        ("configmaps", "vol-map"),
        ("configmaps", "pro-map"),
        ("persistentvolumeclaims", "claim"),
        ("persistentvolumeclaims", "rich-e"),
        ("serviceaccounts", "robot"),
    ],
)
async def test_what_a_pod_refers_to(authorizer: NodeAuthorizer, resource: str, name: str) -> None:
    for verb in ("get", "list", "watch"):
        assert may(authorizer, verb, resource, name)
    assert not may(authorizer, "list", resource)
    assert not may(authorizer, "get", resource, name, "elsewhere")
    assert not may(authorizer, "update", resource, name)
    assert not may(authorizer, "delete", resource, name)


async def test_what_no_pod_of_it_refers_to(authorizer: NodeAuthorizer) -> None:
    assert not may(authorizer, "get", "secrets", "other-secret")
    decision = authorizer.authorize(A, Attributes("get", "", "secrets", namespace="ns", name="other-secret"))
    assert decision.reason == "no relationship found between node 'a' and this object"


async def test_sources_and_tokens(authorizer: NodeAuthorizer) -> None:
    assert may(authorizer, "get", "sources", "abc", group=CORRAL)
    assert not may(authorizer, "get", "sources", "def", group=CORRAL)
    assert may(authorizer, "create", "serviceaccounts/token", "robot")
    assert not may(authorizer, "create", "serviceaccounts/token", "default")


async def test_a_pod_that_left_takes_its_rights_along(authorizer: NodeAuthorizer, put: Any) -> None:
    await authorizer.start()
    try:
        assert may(authorizer, "get", "secrets", "vol-secret")
        await put("core", "pods", pod("new", "a", volumes=[{"name": "x", "secret": {"secretName": "fresh"}}]))
        # At once, although the watch has not been heard yet.
        assert may(authorizer, "get", "secrets", "fresh")
    finally:
        await authorizer.stop()
    await put("core", "pods", RICH, gone=True)
    authorizer._pods.refresh()
    assert not may(authorizer, "get", "secrets", "vol-secret")


async def test_own_node_only(authorizer: NodeAuthorizer) -> None:
    for verb in ("get", "update", "patch"):
        assert may(authorizer, verb, "nodes", "a", "")
        assert not may(authorizer, verb, "nodes", "b", "")
    assert may(authorizer, "patch", "nodes/status", "a", "")
    assert not may(authorizer, "patch", "nodes/status", "b", "")
    assert may(authorizer, "watch", "nodes", "", "", field_selector="metadata.name=a")
    assert not may(authorizer, "watch", "nodes", "", "")
    assert not may(authorizer, "list", "nodes", "", "", field_selector="metadata.name=b")
    assert not may(authorizer, "delete", "nodes", "a", "")


async def test_own_pods_only(authorizer: NodeAuthorizer) -> None:
    for verb in ("get", "delete"):
        assert may(authorizer, verb, "pods", "rich")
        assert not may(authorizer, verb, "pods", "other")
    assert may(authorizer, "patch", "pods/status", "rich")
    assert not may(authorizer, "patch", "pods/status", "other")
    assert not may(authorizer, "patch", "pods", "rich")
    assert may(authorizer, "delete", "pods", "gone-already")
    assert may(authorizer, "watch", "pods", "", "", field_selector="spec.nodeName=a")
    assert may(authorizer, "list", "pods", "", "", field_selector="status.phase!=Failed,spec.nodeName=a")
    assert not may(authorizer, "list", "pods", "", "", field_selector="spec.nodeName=b")
    assert not may(authorizer, "list", "pods", "", "", field_selector="spec.nodeName!=a")
    assert not may(authorizer, "list", "pods", "", "")
    assert not may(authorizer, "create", "pods/exec", "rich")
    assert not may(authorizer, "create", "pods/binding", "rich")


async def test_leases_and_the_rest(authorizer: NodeAuthorizer) -> None:
    group = "coordination.k8s.io"
    assert may(authorizer, "update", "leases", "a", "kube-node-lease", group=group)
    assert not may(authorizer, "update", "leases", "b", "kube-node-lease", group=group)
    assert not may(authorizer, "update", "leases", "a", "kube-system", group=group)
    assert may(authorizer, "create", "leases", "", "kube-node-lease", group=group)
    assert may(authorizer, "list", "services", "", "")
    assert may(authorizer, "create", "events")
    assert may(authorizer, "list", "runtimeclasses", "", "", group="node.k8s.io")
    for verb, resource in (("list", "secrets"), ("create", "secrets"), ("list", "namespaces"), ("delete", "services")):
        assert not may(authorizer, verb, resource, "", "")


async def test_a_broken_pod_takes_nothing_from_the_others(authorizer: NodeAuthorizer, put: Any) -> None:
    await put("core", "pods", pod("broken", "a", volumes=["no volume"]))
    assert may(authorizer, "get", "secrets", "vol-secret")


async def test_volumes_by_their_claim(authorizer: NodeAuthorizer, put: Any) -> None:
    for name, claim in (("mine", "claim"), ("theirs", "other-claim")):
        reference = {"namespace": "ns", "name": claim}
        await put("core", "persistentvolumes", {"metadata": {"name": name}, "spec": {"claimRef": reference}})
    assert may(authorizer, "get", "persistentvolumes", "mine", "")
    assert not may(authorizer, "get", "persistentvolumes", "theirs", "")
    assert not may(authorizer, "get", "persistentvolumes", "missing", "")


async def test_others_are_none_of_its_business(authorizer: NodeAuthorizer) -> None:
    question = Attributes("get", "", "nodes", name="a")
    for user in (User("system:node:a"), User("a", ("system:nodes",)), User("system:node:", ("system:nodes",))):
        decision = authorizer.authorize(user, question)
        assert not decision.allowed
        assert not decision.reason


def test_selects() -> None:
    assert selects("a=b,spec.nodeName==n", "spec.nodeName", "n")
    assert not selects("spec.nodeName=nn", "spec.nodeName", "n")
    assert not selects("", "spec.nodeName", "n")


def refused(verb: str, resource: str, obj: Any, old: Any) -> bool:
    try:
        node_restriction(A, verb, resource, obj, old)
    except StatusError as error:
        return error.code == 403
    return False


def node(name: str, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def test_restriction_of_nodes() -> None:
    old = node("a", {"kubernetes.io/hostname": "a", "mine": "1"})
    assert not refused("create", "nodes", old, None)
    assert refused("create", "nodes", node("b"), None)
    assert not refused("update", "nodes", node("a", {"kubernetes.io/hostname": "a", "mine": "2"}), old)
    assert not refused("update", "nodes", node("a", {**old["metadata"]["labels"], "node.kubernetes.io/x": "1"}), old)
    for label in ("node-restriction.kubernetes.io/tier", "node-role.kubernetes.io/master", "x.k8s.io/y"):
        assert refused("update", "nodes", node("a", {**old["metadata"]["labels"], label: "1"}), old)
        assert refused("create", "nodes", node("a", {label: "1"}), None)
        kept = node("a", {label: "1"})
        assert refused("update", "nodes", node("a"), kept)
        assert not refused("update", "nodes", kept, kept)
    assert refused("update", "nodes", {**old, "spec": {"taints": [{"key": "x"}]}}, old)
    assert refused("update", "nodes/status", node("b"), node("b"))
    assert refused("delete", "nodes", None, node("a"))


def test_restriction_of_pods() -> None:
    mine, theirs = pod("p", "a"), pod("p", "b")
    assert not refused("delete", "pods", None, mine)
    assert refused("delete", "pods", None, theirs)
    assert not refused("update", "pods/status", mine, mine)
    assert refused("update", "pods/status", theirs, theirs)
    labelled = {**mine, "metadata": {**mine["metadata"], "labels": {"a": "b"}}}
    assert refused("update", "pods/status", labelled, mine)
    assert refused("update", "pods", mine, mine)
    assert refused("create", "pods/eviction", {}, theirs)
    assert not refused("create", "pods/eviction", {}, mine)


def test_restriction_of_mirror_pods() -> None:
    owner = {"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "u"}
    mirror = pod("m", "a", containers=[{}])
    mirror["metadata"] |= {"annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]}
    assert not refused("create", "pods", mirror, None)
    assert refused("create", "pods", pod("m", "a"), None)
    assert refused("create", "pods", {**mirror, "spec": {"nodeName": "b"}}, None)
    assert refused("create", "pods", {**mirror, "spec": {**mirror["spec"], "serviceAccountName": "x"}}, None)
    secret = [{"name": "s", "secret": {"secretName": "s"}}]
    assert refused("create", "pods", {**mirror, "spec": {**mirror["spec"], "volumes": secret}}, None)
    metadata = {**mirror["metadata"], "ownerReferences": [{**owner, "name": "b"}]}
    assert refused("create", "pods", {**mirror, "metadata": metadata}, None)


def test_restriction_of_tokens() -> None:
    mine, theirs = pod("p", "a"), pod("p", "b")

    def request(**bound: str) -> dict[str, Any]:
        return {"spec": {"boundObjectRef": bound or None}}

    assert not refused("create", "serviceaccounts/token", request(kind="Pod", name="p", uid="uid-p"), mine)
    assert refused("create", "serviceaccounts/token", request(kind="Pod", name="p", uid="uid-p"), theirs)
    assert refused("create", "serviceaccounts/token", request(kind="Pod", name="p", uid="other"), mine)
    assert refused("create", "serviceaccounts/token", request(kind="Pod", name="p"), mine)
    assert refused("create", "serviceaccounts/token", request(), None)
    assert refused("create", "serviceaccounts/token", request(kind="Secret", name="p", uid="u"), None)


def test_restriction_of_leases_and_others() -> None:
    lease = {"metadata": {"name": "a", "namespace": "kube-node-lease"}}
    assert not refused("update", "leases", lease, lease)
    assert refused("update", "leases", {"metadata": {"name": "b", "namespace": "kube-node-lease"}}, None)
    assert refused("create", "leases", {"metadata": {"name": "a", "namespace": "default"}}, None)
    assert not refused("create", "configmaps", {"metadata": {"name": "x"}}, None)
    node_restriction(User("ann"), "delete", "nodes", None, node("b"))


def test_an_agent_does_not_wait_for_pods_of_others_to_come(authorizer: NodeAuthorizer) -> None:
    assert may(authorizer, "get", "pods", "not-there-yet")
    assert not may(authorizer, "watch", "pods", "not-there-yet")
    assert not may(authorizer, "list", "pods", "not-there-yet")
    assert may(authorizer, "watch", "pods", "rich")
    assert not may(authorizer, "watch", "pods", "other")


def local_volume(name: str, machine: str, *finalizers: str, deleted: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": {"corral.dev/machine": machine}, "finalizers": [*finalizers]}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": metadata, "spec": {"persistentVolumeReclaimPolicy": "Delete"}}


async def test_volumes_of_its_own_machine(authorizer: NodeAuthorizer, put: Any) -> None:
    await put("core", "persistentvolumes", local_volume("here", "a"))
    await put("core", "persistentvolumes", local_volume("there", "b"))
    volumes = "persistentvolumes"
    for verb in ("list", "watch"):
        assert may(authorizer, verb, volumes, "", "", label_selector="corral.dev/machine=a")
        assert may(authorizer, verb, volumes, "", "", label_selector="x=y,corral.dev/machine=a")
        for other in ("", "corral.dev/machine=b", "corral.dev/machine!=a", "corral.dev/machine in (a,b)"):
            assert not may(authorizer, verb, volumes, "", "", label_selector=other)
    assert may(authorizer, "patch", volumes, "here", "")
    assert not may(authorizer, "patch", volumes, "there", "")
    assert not may(authorizer, "patch", volumes, "missing", "")
    assert not may(authorizer, "patch", f"{volumes}/status", "here", "")
    for verb in ("update", "delete", "create", "deletecollection"):
        assert not may(authorizer, verb, volumes, "here", "")


def test_restriction_of_volumes() -> None:
    hold, protection = "corral.dev/local-volume", "kubernetes.io/pv-protection"
    going = local_volume("v", "a", hold, protection, deleted=True)
    freed = local_volume("v", "a", protection, deleted=True)
    volumes = "persistentvolumes"
    assert not refused("update", volumes, freed, going)
    assert refused("update", volumes, local_volume("v", "a", hold, deleted=True), going)
    assert refused("update", volumes, freed | {"spec": {"persistentVolumeReclaimPolicy": "Retain"}}, going)
    assert refused("update", volumes, local_volume("v", "a"), local_volume("v", "a", hold))
    theirs = local_volume("v", "b", hold, deleted=True)
    assert refused("update", volumes, local_volume("v", "b", deleted=True), theirs)
    assert refused("update", volumes, local_volume("v", "a", deleted=True), theirs)
    assert refused("create", volumes, local_volume("v", "a"), None)
    assert refused("delete", volumes, None, going)
