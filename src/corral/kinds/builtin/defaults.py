"""Kubernetes' defaults that the published schemas do not carry (the Go packages' `defaults.go`), by definition.

`CONSTANTS` are fields whose default depends on nothing; `HOOKS` are functions for those that do. A hook runs after its
definition's constants and before the fields inside it are defaulted.
"""

from collections.abc import Mapping
from typing import Any

from corral.kinds.builtin.defaults_pods import POD_CONSTANTS, POD_HOOKS
from corral.kinds.schema.base import Hook
from corral.kinds.types import Obj

RBAC = "rbac.authorization.k8s.io"
_ROLLING_QUARTER = {"maxUnavailable": "25%", "maxSurge": "25%"}
_WEBHOOK: Mapping[str, Any] = {
    "failurePolicy": "Fail",
    "matchPolicy": "Equivalent",
    "namespaceSelector": {},
    "objectSelector": {},
    "timeoutSeconds": 10,
}
_SECRET_REFERENCE_DISK: Mapping[str, Any] = {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"}

CONSTANTS: Mapping[str, Mapping[str, Any]] = {
    **POD_CONSTANTS,
    "admissionregistration.v1.ServiceReference": {"port": 443},
    "admissionregistration.v1.MutatingWebhook": {**_WEBHOOK, "reinvocationPolicy": "Never"},
    "admissionregistration.v1.ValidatingWebhook": _WEBHOOK,
    "admissionregistration.v1.RuleWithOperations": {"scope": "*"},
    "admissionregistration.v1.NamedRuleWithOperations": {"scope": "*"},
    "admissionregistration.v1.ValidatingAdmissionPolicySpec": {"failurePolicy": "Fail"},
    "admissionregistration.v1.MutatingAdmissionPolicySpec": {"failurePolicy": "Fail"},
    "admissionregistration.v1.MatchResources": {
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
    },
    "apiextensions.v1.ServiceReference": {"port": 443},
    "apiextensions.v1.CustomResourceDefinitionSpec": {"conversion": {"strategy": "None"}},
    "apiregistration.v1.ServiceReference": {"port": 443},
    "apps.v1.DaemonSetSpec": {"updateStrategy": {}, "revisionHistoryLimit": 10},
    "apps.v1.DaemonSetUpdateStrategy": {"type": "RollingUpdate"},
    "apps.v1.DeploymentSpec": {
        "replicas": 1,
        "strategy": {},
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    },
    "apps.v1.DeploymentStrategy": {"type": "RollingUpdate"},
    "apps.v1.ReplicaSetSpec": {"replicas": 1},
    "apps.v1.StatefulSetSpec": {
        "podManagementPolicy": "OrderedReady",
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "updateStrategy": {},
        "persistentVolumeClaimRetentionPolicy": {},
    },
    "apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    "apps.v1.StatefulSetUpdateStrategy": {"type": "RollingUpdate"},
    "authentication.v1.TokenRequestSpec": {"expirationSeconds": 3600},
    "autoscaling.v1.HorizontalPodAutoscalerSpec": {"minReplicas": 1, "targetCPUUtilizationPercentage": 80},
    "autoscaling.v2.HorizontalPodAutoscalerSpec": {"minReplicas": 1},
    "batch.v1.CronJobSpec": {
        "concurrencyPolicy": "Allow",
        "suspend": False,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    },
    "batch.v1.JobSpec": {"completionMode": "NonIndexed", "suspend": False, "manualSelector": False},
    "batch.v1.PodFailurePolicyOnPodConditionsPattern": {"status": "True"},
    "certificates.v1.CertificateSigningRequestSpec": {},
    "core.v1.ConfigMap": {},
    "core.v1.EndpointPort": {"protocol": "TCP"},
    "core.v1.NamespaceStatus": {"phase": "Active"},
    "core.v1.PersistentVolumeClaimSpec": {"volumeMode": "Filesystem"},
    "core.v1.PersistentVolumeSpec": {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"},
    "core.v1.ReplicationControllerSpec": {"replicas": 1},
    "core.v1.Secret": {"type": "Opaque"},
    "core.v1.ServiceSpec": {"sessionAffinity": "None", "type": "ClusterIP"},
    "core.v1.ServicePort": {"protocol": "TCP"},
    "core.v1.HostPathVolumeSource": {"type": ""},
    "core.v1.ISCSIPersistentVolumeSource": {"iscsiInterface": "default"},
    "core.v1.RBDPersistentVolumeSource": _SECRET_REFERENCE_DISK,
    "discovery.v1.EndpointPort": {"name": "", "protocol": "TCP"},
    "flowcontrol.v1.FlowSchemaSpec": {"matchingPrecedence": 1000},
    "flowcontrol.v1.LimitedPriorityLevelConfiguration": {"nominalConcurrencyShares": 30, "lendablePercent": 0},
    "networking.v1.IngressClassParametersReference": {"scope": "Cluster"},
    "networking.v1.NetworkPolicyPort": {"protocol": "TCP"},
    "networking.v1.NetworkPolicySpec": {"podSelector": {}},
    "resource.v1.ExactDeviceRequest": {"allocationMode": "ExactCount"},
    "resource.v1.DeviceSubRequest": {"allocationMode": "ExactCount"},
    "scheduling.v1.PriorityClass": {"preemptionPolicy": "PreemptLowerPriority"},
    "storage.v1.CSIDriverSpec": {
        "attachRequired": True,
        "fsGroupPolicy": "ReadWriteOnceWithFSType",
        "podInfoOnMount": False,
        "requiresRepublish": False,
        "seLinuxMount": False,
        "storageCapacity": False,
        "volumeLifecycleModes": ["Persistent"],
    },
    "storage.v1.StorageClass": {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"},
}


def _rolling_deployment(strategy: Obj) -> None:
    if strategy.get("type") == "RollingUpdate":
        _fill(strategy, "rollingUpdate", _ROLLING_QUARTER)


def _rolling_daemon_set(strategy: Obj) -> None:
    if strategy.get("type") == "RollingUpdate":
        _fill(strategy, "rollingUpdate", {"maxUnavailable": 1, "maxSurge": 0})


def _rolling_stateful_set(strategy: Obj) -> None:
    if strategy.get("type") == "RollingUpdate":
        _fill(strategy, "rollingUpdate", {"partition": 0})


def _fill(obj: Obj, field: str, defaults: Mapping[str, Any]) -> None:
    inner = obj.get(field)
    if inner is None:
        inner = obj[field] = {}
    for name, value in defaults.items():
        if inner.get(name) is None:
            inner[name] = value


def _labels_from_template(obj: Obj) -> None:
    """A ReplicationController takes labels and selector from its template."""
    spec = obj.get("spec") or {}
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        if not obj.setdefault("metadata", {}).get("labels"):
            obj["metadata"]["labels"] = dict(labels)


def _job(spec: Obj) -> None:
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    if "backoffLimit" not in spec:
        spec["backoffLimit"] = 2**31 - 1 if "backoffLimitPerIndex" in spec else 6
    if "podReplacementPolicy" not in spec:
        spec["podReplacementPolicy"] = "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed"


def _job_labels(job: Obj) -> None:
    labels = (((job.get("spec") or {}).get("template") or {}).get("metadata") or {}).get("labels")
    if labels and not job.setdefault("metadata", {}).get("labels"):
        job["metadata"]["labels"] = dict(labels)


def _pod_failure_rule(rule: Obj) -> None:
    for pattern in rule.get("onPodConditions") or ():
        pattern.setdefault("status", "True")


def _service(spec: Obj) -> None:
    kind = spec["type"]
    if spec.get("sessionAffinity") == "ClientIP":
        config = spec.get("sessionAffinityConfig")
        if config is None or "timeoutSeconds" not in (config.get("clientIP") or {}):
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": 10800}}
    elif spec.get("sessionAffinity") == "None":
        spec.pop("sessionAffinityConfig", None)
    for port in spec.get("ports") or ():
        if port.get("targetPort") in (None, 0, "") and "port" in port:
            port["targetPort"] = port["port"]
    if kind in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind in ("ClusterIP", "NodePort", "LoadBalancer"):
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)


def _endpoints(subset: Obj) -> None:
    for port in subset.get("ports") or ():
        port.setdefault("protocol", "TCP")


def _persistent_volume(volume: Obj) -> None:
    volume.setdefault("status", {}).setdefault("phase", "Pending")


def _namespace(namespace: Obj) -> None:
    metadata = namespace.setdefault("metadata", {})
    name = metadata.get("name")
    if name:
        labels = metadata.get("labels")
        if labels is None:
            labels = metadata["labels"] = {}
        labels["kubernetes.io/metadata.name"] = name


def _hpa(spec: Obj) -> None:
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if behavior:
        up = {"selectPolicy": "Max", "stabilizationWindowSeconds": 0}
        fast = [
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ]
        down = {"selectPolicy": "Max"}
        _fill(behavior, "scaleUp", {**up, "policies": fast})
        slow = [{"type": "Percent", "value": 100, "periodSeconds": 15}]
        _fill(behavior, "scaleDown", {**down, "policies": slow})


def _network_policy(spec: Obj) -> None:
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def _role_ref(reference: Obj) -> None:
    if not reference.get("apiGroup"):
        reference["apiGroup"] = RBAC


def _subject(subject: Obj) -> None:
    if not subject.get("apiGroup"):
        if subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = RBAC
        elif subject.get("kind") == "ServiceAccount":
            subject.pop("apiGroup", None)


def _limit_range_item(item: Obj) -> None:
    """Container limits stand in for absent requests, the maximum for absent limits."""
    if item.get("type") != "Container":
        return
    default = item.setdefault("default", {})
    requests = item.setdefault("defaultRequest", {})
    for source, target in ((item.get("max"), default), (default, requests), (item.get("min"), requests)):
        for name, value in (source or {}).items():
            target.setdefault(name, value)
    for name in ("default", "defaultRequest"):
        if not item[name]:
            del item[name]


def _definition_names(spec: Obj) -> None:
    names = spec.get("names") or {}
    kind = names.get("kind", "")
    if kind:
        names.setdefault("singular", kind.lower())
        names.setdefault("listKind", f"{kind}List")


def _device_request(request: Obj) -> None:
    if request.get("allocationMode") == "ExactCount":
        request.setdefault("count", 1)


HOOKS: Mapping[str, Hook] = {
    **POD_HOOKS,
    "apiextensions.v1.CustomResourceDefinitionSpec": _definition_names,
    "apps.v1.DaemonSetUpdateStrategy": _rolling_daemon_set,
    "apps.v1.DeploymentStrategy": _rolling_deployment,
    "apps.v1.StatefulSetUpdateStrategy": _rolling_stateful_set,
    "autoscaling.v2.HorizontalPodAutoscalerSpec": _hpa,
    "batch.v1.Job": _job_labels,
    "batch.v1.JobSpec": _job,
    "batch.v1.PodFailurePolicyRule": _pod_failure_rule,
    "core.v1.EndpointSubset": _endpoints,
    "core.v1.LimitRangeItem": _limit_range_item,
    "core.v1.Namespace": _namespace,
    "core.v1.PersistentVolume": _persistent_volume,
    "core.v1.PersistentVolumeClaim": _persistent_volume,
    "core.v1.ReplicationController": _labels_from_template,
    "core.v1.ServiceSpec": _service,
    "networking.v1.NetworkPolicySpec": _network_policy,
    "rbac.v1.RoleRef": _role_ref,
    "rbac.v1.Subject": _subject,
    "resource.v1.DeviceSubRequest": _device_request,
    "resource.v1.ExactDeviceRequest": _device_request,
}
