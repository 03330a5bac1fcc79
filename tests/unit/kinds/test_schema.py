"""Prune, default, validate on built-in schemas."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.kinds.registry import Registry
from corral.kinds.schema.paths import keyed, render
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

from .conftest import Create
from .samples import container, job, pod, workload

REGISTRY = Registry.builtin()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
WORDS = (
    "metadata",
    "spec",
    "status",
    "containers",
    "name",
    "labels",
    "template",
    "data",
    "ports",
    "image",
    "resources",
)
NAMED = st.recursive(
    JSON,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=20,
)


def schema(kind: str, version: str = "v1", group: str = "") -> Any:
    found = REGISTRY.by_kind(group, version, kind)
    assert found is not None
    return found.schema


def test_unknown_fields_are_dropped_and_named() -> None:
    obj = pod(foo=1)
    obj["spec"]["containers"][0]["bar"] = {"deep": True}
    obj["metadata"]["nope"] = "x"
    assert sorted(schema("Pod").prune(obj)) == ["metadata.nope", "spec.containers[0].bar", "spec.foo"]
    assert obj == pod()


def test_null_counts_as_absent() -> None:
    obj = pod(nodeSelector=None, containers=[container(args=[None, "x"], resources=None)])
    obj["metadata"] |= {"creationTimestamp": None, "labels": {"a": None}}
    assert schema("Pod").prune(obj) == []
    assert "nodeSelector" not in obj["spec"]
    assert obj["spec"]["containers"][0]["args"] == ["", "x"]
    assert "resources" not in obj["spec"]["containers"][0]
    assert obj["metadata"]["labels"] == {"a": ""}
    assert "creationTimestamp" not in obj["metadata"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"spec": {"containers": "x"}},
            "json: cannot unmarshal string into Go struct field spec.containers of type array",
        ),
        ({"spec": {"hostNetwork": "yes"}}, "spec.hostNetwork of type boolean"),
        ({"spec": {"priority": "1"}}, "spec.priority of type int32"),
        (
            {"metadata": {"labels": {"a": 1}}},
            "cannot unmarshal number into Go struct field metadata.labels[a] of type string",
        ),
        ({"metadata": {"labels": []}}, "metadata.labels of type map"),
        ({"spec": {"overhead": {"cpu": "lots"}}}, "spec.overhead[cpu]: quantities must match the regular expression"),
        ({"spec": {"overhead": {"cpu": True}}}, "spec.overhead[cpu] of type resource.Quantity"),
    ],
)
def test_a_wrong_type_is_a_bad_request_as_in_decoding(change: Obj, told: str) -> None:
    with pytest.raises(StatusError) as refused:
        schema("Pod").prune({**pod(), **change})
    assert refused.value.code == 400
    assert told in refused.value.message
    assert 'Pod in version "v1" cannot be handled as a Pod' in refused.value.message


def test_free_form_fields_stay_as_they_are() -> None:
    revision = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {},
        "data": {"any": {"thing": [None]}},
    }
    wanted = deepcopy(revision)
    assert schema("ControllerRevision", group="apps").prune(revision) == []
    assert revision == wanted


def test_extensions_are_where_patches_look_for_them() -> None:
    spec = schema("Pod").field("spec")
    containers = spec.field("containers")
    assert (containers.patch_merge_key, containers.patch_strategy) == ("name", ("merge",))
    assert (containers.list_type, containers.list_map_keys) == ("map", ("name",))
    assert spec.field("volumes").patch_strategy == ("merge", "retainKeys")
    ports = containers.items.field("ports")
    assert ports.list_map_keys == ("containerPort", "protocol")
    assert ports.items.field("protocol") is not None
    assert schema("Deployment", group="apps").field("spec").field("strategy").patch_strategy == ("retainKeys",)
    assert schema("ConfigMap").field("data").field("any key").type == "string"
    assert spec.field("nodeSelector").map_type == "atomic"
    assert schema("Service").field("spec").field("ports").items.field("targetPort").int_or_string
    assert spec.field("nope") is None


def test_pod_defaults(create: Create) -> None:
    made, causes = create(
        pod(
            containers=[
                container(
                    image="nginx:1.25",
                    ports=[{"containerPort": 80}],
                    resources={"limits": {"cpu": 1, "memory": "1024Mi"}, "requests": {"cpu": "0.1"}},
                    livenessProbe={"httpGet": {"port": 80}},
                )
            ],
            volumes=[{"name": "a"}, {"name": "b", "secret": {"secretName": "s"}}],
        )
    )
    assert causes == []
    spec = made["spec"]
    main = spec["containers"][0]
    assert {name: spec[name] for name in ("restartPolicy", "dnsPolicy", "schedulerName", "enableServiceLinks")} == {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
    }
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["securityContext"] == {}
    assert main["imagePullPolicy"] == "IfNotPresent"
    assert main["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert main["resources"] == {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}}
    assert main["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert spec["volumes"] == [
        {"name": "a", "emptyDir": {}},
        {"name": "b", "secret": {"secretName": "s", "defaultMode": 420}},
    ]
    assert made["status"] == {"phase": "Pending", "qosClass": "Burstable"}


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("host:5000/nginx", "Always"),
        ("host:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:abc", "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(create: Create, image: str, policy: str) -> None:
    made, _ = create(pod(containers=[container(image=image)]))
    assert made["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_templates_get_no_requests_from_limits(create: Create) -> None:
    inner = {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [container(resources={"limits": {"cpu": "1"}})]},
    }
    made, causes = create(workload("Deployment", template=inner))
    assert causes == []
    assert made["spec"]["template"]["spec"]["containers"][0]["resources"] == {"limits": {"cpu": "1"}}
    assert "enableServiceLinks" not in made["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("given", "path", "wanted"),
    [
        (
            workload("Deployment"),
            "spec.strategy",
            {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}},
        ),
        (workload("Deployment"), "spec.progressDeadlineSeconds", 600),
        (workload("Deployment", strategy={"type": "Recreate"}), "spec.strategy", {"type": "Recreate"}),
        (workload("DaemonSet"), "spec.updateStrategy.rollingUpdate", {"maxUnavailable": 1, "maxSurge": 0}),
        (workload("StatefulSet"), "spec.podManagementPolicy", "OrderedReady"),
        (workload("ReplicaSet"), "spec.replicas", 1),
        (job(), "spec.backoffLimit", 6),
        (job(), "spec.completions", 1),
        (job(parallelism=3), "spec.completions", None),
        (job(), "spec.selector.matchLabels", {"batch.kubernetes.io/controller-uid": "uid-1"}),
    ],
)
def test_defaults_of_workloads(create: Create, given: Obj, path: str, wanted: Any) -> None:
    value: Any = create(given)[0]
    for step in path.split("."):
        value = value.get(step) if value is not None else None
    assert value == wanted


def test_paths_read_as_kubernetes_writes_them() -> None:
    assert render(((((None, "spec"), "containers"), 0), "name")) == "spec.containers[0].name"
    assert render(keyed((None, "data"), "a.b")) == "data[a.b]"
    assert render(None) == ""


@pytest.mark.parametrize("kind", ["Pod", "ConfigMap", "Service", "Node"])
@given(body=st.dictionaries(st.sampled_from(WORDS), NAMED, max_size=5))
@settings(max_examples=60, deadline=None)
def test_nothing_makes_pruning_and_validating_crash(kind: str, body: Obj) -> None:
    found = schema(kind)
    try:
        found.prune(body)
    except StatusError as refused:
        assert refused.code == 400  # noqa: PT017
        found.validate(body)
        return
    found.validate(body)
    assert found.prune(body) == []
    found.default(body)
    once = deepcopy(body)
    found.default(body)
    assert body == once


@given(
    replicas=st.integers(0, 9),
    labels=st.dictionaries(
        st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.from_regex(r"[a-z]{0,5}", fullmatch=True), max_size=3
    ),
    names=st.lists(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), min_size=1, max_size=3, unique=True),
)
@settings(max_examples=50, deadline=None)
def test_a_valid_object_survives_unchanged(replicas: int, labels: dict[str, str], names: list[str]) -> None:
    found = REGISTRY.by_kind("apps", "v1", "Deployment")
    assert found is not None
    chosen = {**labels, "app": "x"}
    obj = workload("Deployment", replicas=replicas, selector={"matchLabels": chosen})
    obj["spec"]["template"] = {
        "metadata": {"labels": chosen},
        "spec": {"containers": [{"name": name, "image": "i"} for name in names]},
    }
    found.schema.default(obj)
    assert found.schema.validate(obj) == []
    assert found.strategy.validate(obj, None) == []
    once = deepcopy(obj)
    assert found.schema.prune(obj) == []
    found.schema.default(obj)
    assert obj == once


def test_settled_members_are_left_alone() -> None:
    kind = REGISTRY.get("", "v1", "pods")
    assert kind is not None
    schema = kind.schema
    spec = {"containers": [{"name": "c", "odd": 1}], "restartPolicy": "Perhaps"}
    obj: Obj = {"metadata": {"name": "p"}, "spec": spec, "status": {"phase": "Running", "odd": 1}, "other": 1}
    assert sorted(schema.prune(obj, {"spec"})) == ["other", "status.odd"]
    schema.default(obj, {"spec"})
    assert schema.validate(obj, {"spec"}) == []
    assert obj["spec"]["containers"] == [{"name": "c", "odd": 1}]
    assert "dnsPolicy" not in obj["spec"]
    assert schema.prune(obj) == ["spec.containers[0].odd"]
    schema.default(obj)
    assert obj["spec"]["dnsPolicy"] == "ClusterFirst"
