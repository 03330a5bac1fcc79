"""What is refused, and in which words: one row a rule."""

from typing import Any

import pytest

from corral.kinds.types import Obj

from .conftest import Create, Update
from .samples import container, job, meta, plain, pod, template, workload

RBAC = "rbac.authorization.k8s.io"
GROUPS = "scheduling.k8s.io/v1alpha2"
GANG = {"schedulingPolicy": {"gang": {"minCount": 4}}}


def named(obj: Obj, name: str) -> Obj:
    return {**obj, "metadata": {**obj["metadata"], "name": name}}


def one(**more: Any) -> Obj:
    return pod(containers=[container(**more)])


C = "spec.containers[0]"
PODS: list[tuple[Obj, str, str]] = [
    (pod(containers=[]), "spec.containers", "Required value"),
    (pod(containers=[{"name": "a"}]), f"{C}.image", "Required value"),
    (pod(containers=[{"image": "a"}]), f"{C}.name", "Required value"),
    (pod(containers=[container(), container()]), "spec.containers[1].name", 'Duplicate value: "main"'),
    (pod(initContainers=[container()]), "spec.initContainers[0].name", 'Duplicate value: "main"'),
    (one(name="A_b"), f"{C}.name", "a lowercase RFC 1123 label must consist of"),
    (
        one(imagePullPolicy="Sometimes"),
        f"{C}.imagePullPolicy",
        'Unsupported value: "Sometimes": supported values: "Always"',
    ),
    (one(ports=[{"containerPort": 0}]), f"{C}.ports[0].containerPort", "must be between 1 and 65535, inclusive"),
    (one(ports=[{"containerPort": 1, "name": "x" * 16}]), f"{C}.ports[0].name", "must be no more than 15 characters"),
    (one(ports=[{"containerPort": 1, "protocol": "X"}]), f"{C}.ports[0].protocol", 'Unsupported value: "X"'),
    (one(volumeMounts=[{"name": "v", "mountPath": "/v"}]), f"{C}.volumeMounts[0].name", 'Not found: "v"'),
    (one(env=[{"name": "A=B", "value": "x"}]), f"{C}.env[0].name", "environment variable name"),
    (one(env=[{"name": "A", "valueFrom": {}}]), f"{C}.env[0].valueFrom", "must specify one of"),
    (
        one(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nope"}}}]),
        f"{C}.env[0].valueFrom.fieldRef.fieldPath",
        'Unsupported value: "spec.nope"',
    ),
    (
        one(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
        f"{C}.resources.requests",
        'Invalid value: "2": must be less than or equal to cpu limit of 1',
    ),
    (one(resources={"requests": {"cpu": "-1"}}), f"{C}.resources.requests[cpu]", "must be greater than or equal to 0"),
    (
        one(resources={"requests": {"a.b/gpu": "1"}}),
        f"{C}.resources.limits",
        "Limit must be set for non overcommitable",
    ),
    (
        one(resources={"limits": {"gpu": "1"}}),
        f"{C}.resources.limits",
        "must be a standard resource type or fully qualified",
    ),
    (one(livenessProbe={}), f"{C}.livenessProbe", "must specify a handler type"),
    (
        one(livenessProbe={"exec": {"command": ["a"]}, "successThreshold": 2}),
        f"{C}.livenessProbe.successThreshold",
        "must be 1",
    ),
    (
        one(readinessProbe={"exec": {"command": ["a"]}, "httpGet": {"port": 1}}),
        f"{C}.readinessProbe.httpGet",
        "may not specify more than 1 handler type",
    ),
    (
        pod(initContainers=[container(name="i", readinessProbe={"exec": {"command": ["a"]}})]),
        "spec.initContainers[0].readinessProbe",
        "may not be set for init containers without restartPolicy=Always",
    ),
    (pod(restartPolicy="Maybe"), "spec.restartPolicy", 'supported values: "Always", "Never", "OnFailure"'),
    (pod(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds", "must be between 1 and 2147483647, inclusive"),
    (pod(dnsPolicy="None"), "spec.dnsConfig.nameservers", "must provide at least one DNS nameserver"),
    (pod(nodeSelector={"a b": "c"}), "spec.nodeSelector", "name part must consist of"),
    (pod(volumes=[{"name": "v"}, {"name": "v"}]), "spec.volumes[1].name", 'Duplicate value: "v"'),
    (pod(volumes=[{"name": "v", "configMap": {}}]), "spec.volumes[0].configMap.name", "Required value"),
    (
        pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]),
        "spec.volumes[0].hostPath",
        "may not specify more than 1 volume type",
    ),
    (
        pod(volumes=[{"name": "v", "hostPath": {"path": "/a/../b"}}]),
        "spec.volumes[0].hostPath.path",
        "must not contain '..'",
    ),
    (
        pod(volumes=[{"name": "v", "hostPath": {"path": "/a", "type": "Disk"}}]),
        "spec.volumes[0].hostPath.type",
        'Unsupported value: "Disk"',
    ),
    (
        pod(tolerations=[{"operator": "Equal"}]),
        "spec.tolerations[0].operator",
        "operator must be Exists when `key` is empty",
    ),
    (
        pod(tolerations=[{"key": "a", "operator": "Gt", "value": "1"}]),
        "spec.tolerations[0].operator",
        'Unsupported value: "Gt": supported values: "Equal", "Exists"',
    ),
    (
        pod(tolerations=[{"key": "a", "operator": "Exists", "tolerationSeconds": 1}]),
        "spec.tolerations[0].effect",
        "effect must be 'NoExecute' when `tolerationSeconds` is set",
    ),
    (
        pod(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}),
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
        "must have at least one node selector term",
    ),
    (
        pod(topologySpreadConstraints=[{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]),
        "spec.topologySpreadConstraints[0].maxSkew",
        "must be greater than zero",
    ),
    (pod(schedulingGates=[{"name": "a b"}]), "spec.schedulingGates[0]", "name part must consist of"),
    (
        pod(hostNetwork=True, containers=[container(ports=[{"containerPort": 80, "hostPort": 81}])]),
        f"{C}.ports[0].hostPort",
        "must match `containerPort` when `hostNetwork` is true",
    ),
]
SELECTOR = {"matchLabels": {"app": "y"}}
OTHERS: list[tuple[Obj, str, str]] = [
    (named(pod(), "Bad_Name"), "metadata.name", "a lowercase RFC 1123 subdomain must consist of"),
    ({**pod(), "metadata": {"namespace": "default"}}, "metadata.name", "name or generateName is required"),
    ({**pod(), "metadata": meta(labels={"a": "x" * 64})}, "metadata.labels", "must be no more than 63 bytes"),
    ({**pod(), "metadata": meta(labels={"/a": "x"})}, "metadata.labels", "prefix part must be non-empty"),
    (
        {**pod(), "metadata": meta(annotations={"a": "x" * 262145})},
        "metadata.annotations",
        "Too long: may not be more than 262144 bytes",
    ),
    ({**pod(), "metadata": meta(finalizers=["a b"])}, "metadata.finalizers", "name part must consist of"),
    (workload("Deployment", replicas=-1), "spec.replicas", "must be greater than or equal to 0"),
    (
        workload("Deployment", selector=SELECTOR),
        "spec.template.metadata.labels",
        "`selector` does not match template `labels`",
    ),
    (workload("Deployment", selector={}), "spec.selector", "empty selector is invalid for deployment"),
    (
        workload(
            "Deployment", strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}
        ),
        "spec.strategy.rollingUpdate.maxUnavailable",
        "may not be 0 when `maxSurge` is 0",
    ),
    (
        workload("Deployment", strategy={"rollingUpdate": {"maxSurge": "x%"}}),
        "spec.strategy.rollingUpdate.maxSurge",
        "a valid percent string",
    ),
    (
        workload("ReplicaSet", template=template(restartPolicy="Never")),
        "spec.template.spec.restartPolicy",
        'Unsupported value: "Never": supported values: "Always"',
    ),
    (
        job(template={"spec": {"containers": [container()]}}),
        "spec.template.spec.restartPolicy",
        'Unsupported value: "Always": supported values: "OnFailure", "Never"',
    ),
    (job(completionMode="Indexed", parallelism=1), "spec.completions", "when completion mode is Indexed"),
    (
        plain("batch/v1", "CronJob", spec={"schedule": "61 * * * *", "jobTemplate": {"spec": job()["spec"]}}),
        "spec.schedule",
        "values must be between 0 and 59",
    ),
    (
        plain("policy/v1", "PodDisruptionBudget", spec={"minAvailable": 1, "maxUnavailable": 1}),
        "spec",
        "minAvailable and maxUnavailable cannot be both set",
    ),
    (plain("v1", "ConfigMap", data={"a b": "c"}), "data[a b]", "a valid config key must consist of"),
    (plain("v1", "ConfigMap", data={"a": "x" * (2**20 + 1)}), "data", "Too long: may not be more than 1048576 bytes"),
    (plain("v1", "Secret", data={"a": "not base64!"}), "data[a]", "must be base64"),
    (plain("v1", "Secret", type="kubernetes.io/tls", data={}), "data[tls.crt]", "Required value"),
    (named(plain("v1", "Service", spec={"ports": [{"port": 80}]}), "9x"), "metadata.name", "a DNS-1035 label"),
    (plain("v1", "Service", spec={}), "spec.ports", "Required value"),
    (plain("v1", "Service", spec={"ports": [{"port": 1}, {"port": 2}]}), "spec.ports[0].name", "Required value"),
    (
        plain("v1", "Service", spec={"type": "ClusterIP", "ports": [{"port": 1, "nodePort": 30000}]}),
        "spec.ports[0].nodePort",
        "may not be used when `type` is 'ClusterIP'",
    ),
    (named(plain("v1", "Namespace", namespace=""), "a.b"), "metadata.name", "a lowercase RFC 1123 label"),
    (plain("v1", "Namespace"), "metadata.namespace", "not allowed on this type"),
    (
        plain(f"{RBAC}/v1", "Role", rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": []}]),
        "rules[0].verbs",
        "Required value",
    ),
    (
        plain(f"{RBAC}/v1", "RoleBinding", roleRef={"kind": "Node", "name": "x"}),
        "roleRef.kind",
        'Unsupported value: "Node": supported values: "Role", "ClusterRole"',
    ),
    (
        plain("scheduling.k8s.io/v1", "PriorityClass", namespace="", value=2_000_000_000),
        "value",
        "maximum allowed value",
    ),
    (plain(GROUPS, "PodGroup", spec={"schedulingPolicy": {}}), "spec.schedulingPolicy", "must specify exactly one of"),
    (
        plain(GROUPS, "PodGroup", spec={"schedulingPolicy": {"gang": {"minCount": 0}}}),
        "spec.schedulingPolicy.gang.minCount",
        "must be greater than 0",
    ),
    (plain(GROUPS, "Workload", spec={"podGroupTemplates": []}), "spec.podGroupTemplates", "at least one item"),
    (
        plain(GROUPS, "Workload", spec={"podGroupTemplates": [{"name": "A", "schedulingPolicy": {"basic": {}}}]}),
        "spec.podGroupTemplates[0].name",
        "a lowercase RFC 1123 label must consist of",
    ),
    (pod(schedulingGroup={}), "spec.schedulingGroup.podGroupName", "exactly one field must be specified"),
    (pod(schedulingGroup={"podGroupName": "A"}), "spec.schedulingGroup.podGroupName", "lowercase RFC 1123 subdomain"),
    (
        plain("coordination.k8s.io/v1", "Lease", spec={"leaseDurationSeconds": 0}),
        "spec.leaseDurationSeconds",
        "must be greater than 0",
    ),
    (
        plain("v1", "PersistentVolumeClaim", spec={"resources": {"requests": {"storage": "1Gi"}}}),
        "spec.accessModes",
        "at least 1 access mode",
    ),
    (plain("networking.k8s.io/v1", "Ingress", spec={}), "spec", "either `defaultBackend` or `rules` must be specified"),
    (
        plain(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            spec={"scaleTargetRef": {"kind": "D", "name": "x"}, "maxReplicas": 0},
        ),
        "spec.maxReplicas",
        "must be greater than 0",
    ),
]


@pytest.mark.parametrize(("given", "field", "words"), PODS + OTHERS)
def test_refusals_name_the_field_in_kubernetes_words(create: Create, given: Obj, field: str, words: str) -> None:
    _, causes = create(given)
    told = [(cause.field, cause.message) for cause in causes]
    assert any(where == field and words in message for where, message in told), told


@pytest.mark.parametrize(
    "given",
    [
        pod(),
        one(env=[{"name": "my.var-1", "value": "x"}], ports=[{"containerPort": 80}, {"containerPort": 80}]),
        one(resources={"limits": {"nvidia.com/gpu": 1, "hugepages-2Mi": "4Mi", "ephemeral-storage": "1Gi"}}),
        pod(tolerations=[{"operator": "Exists"}], schedulingGates=[{"name": "a.b/c"}]),
        pod(
            initContainers=[
                container(name="side", restartPolicy="Always", livenessProbe={"tcpSocket": {"port": "http"}})
            ]
        ),
        pod(volumes=[{"name": "w", "csi": {"driver": "source.corral.dev", "volumeAttributes": {"digest": "x"}}}]),
        workload("Deployment"),
        workload(
            "StatefulSet",
            template=template(containers=[container(volumeMounts=[{"name": "data", "mountPath": "/d"}])]),
            volumeClaimTemplates=[
                {
                    "metadata": {"name": "data"},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
                }
            ],
        ),
        job(completionMode="Indexed", completions=3),
        plain(
            "batch/v1",
            "CronJob",
            spec={"schedule": "*/5 0-6 * jan,MAR mon-fri", "jobTemplate": {"spec": job()["spec"]}},
        ),
        plain("batch/v1", "CronJob", spec={"schedule": "@hourly", "jobTemplate": {"spec": job()["spec"]}}),
        plain("v1", "Service", spec={"clusterIP": "None"}),
        plain("v1", "Service", spec={"type": "ExternalName", "externalName": "a.b"}),
        named(
            plain(f"{RBAC}/v1", "ClusterRole", namespace="", rules=[{"nonResourceURLs": ["/x"], "verbs": ["get"]}]),
            "system:x",
        ),
        plain("v1", "Node", namespace="", status={"capacity": {"cpu": 4}}),
        plain(GROUPS, "PodGroup", spec={"schedulingPolicy": {"basic": {}}}),
        plain(GROUPS, "Workload", spec={"podGroupTemplates": [{"name": "workers", **GANG}]}),
        pod(schedulingGroup={"podGroupName": "train"}),
    ],
)
def test_good_objects_pass(create: Create, given: Obj) -> None:
    assert create(given)[1] == []


def _changed(obj: Obj, **spec: Any) -> Obj:
    return {**obj, "spec": {**obj["spec"], **spec}}


@pytest.mark.parametrize(
    ("given", "change", "field", "words"),
    [
        (
            workload("Deployment"),
            {"selector": SELECTOR, "template": {**template(), "metadata": {"labels": {"app": "y"}}}},
            "spec.selector",
            "field is immutable",
        ),
        (
            workload("StatefulSet"),
            {"podManagementPolicy": "Parallel"},
            "spec",
            "updates to statefulset spec for fields other than",
        ),
        (
            plain(GROUPS, "PodGroup", spec=GANG),
            {"schedulingPolicy": {"gang": {"minCount": 5}}},
            "spec",
            "field is immutable",
        ),
        (job(), {"completions": 5}, "spec.completions", "field is immutable"),
        (job(), {"completionMode": "Indexed"}, "spec.completionMode", "field is immutable"),
        (
            plain("v1", "Service", spec={"clusterIP": "10.0.0.1", "ports": [{"port": 1}]}),
            {"clusterIP": "10.0.0.2"},
            "spec.clusterIPs[0]",
            "may not change once set",
        ),
    ],
)
def test_what_may_not_change(create: Create, update: Update, given: Obj, change: Obj, field: str, words: str) -> None:
    old, causes = create(given)
    assert causes == []
    _, causes = update(_changed(old, **change), old)
    assert any(cause.field == field and words in cause.message for cause in causes), causes


def test_generation_counts_what_is_wanted_and_status_stays(create: Create, update: Update) -> None:
    old, _ = create(workload("Deployment"))
    old["status"] = {"replicas": 1}
    same, causes = update({**old, "status": {"replicas": 9}}, old)
    assert causes == []
    assert same["metadata"]["generation"] == 1
    assert same["status"] == {"replicas": 1}
    more, _ = update(_changed(old, replicas=5), old)
    assert more["metadata"]["generation"] == 2


def test_fields_of_features_that_are_off_are_dropped(create: Create) -> None:
    obj, causes = create(plain(GROUPS, "PodGroup", spec={**GANG, "disruptionMode": "Pod", "priorityClassName": "x"}))
    assert causes == []
    assert obj["spec"] == GANG


def test_a_frozen_config_map_stays(create: Create, update: Update) -> None:
    old, causes = create(plain("v1", "ConfigMap", data={"a": "b"}, immutable=True))
    assert causes == []
    _, causes = update({**old, "data": {"a": "c"}}, old)
    assert [cause.field for cause in causes] == ["data"]
    thawed = {key: value for key, value in old.items() if key != "immutable"}
    assert [cause.field for cause in update(thawed, old)[1]] == ["immutable"]


def test_string_data_goes_into_data(create: Create) -> None:
    made, causes = create(plain("v1", "Secret", data={"a": "eA=="}, stringData={"b": "hü"}))
    assert causes == []
    assert made["data"] == {"a": "eA==", "b": "aMO8"}
    assert made["type"] == "Opaque"
    assert "stringData" not in made


def test_a_namespace_starts_active_with_its_label_and_finalizer(create: Create) -> None:
    made, causes = create(plain("v1", "Namespace", namespace=""))
    assert causes == []
    assert made["spec"] == {"finalizers": ["kubernetes"]}
    assert made["status"] == {"phase": "Active"}
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "x"}
