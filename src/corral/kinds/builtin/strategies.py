"""Which strategy a built-in kind has: one row each for what differs from the generic one."""

from collections.abc import Mapping
from typing import Any

from corral.kinds.builtin import pods
from corral.kinds.builtin import rules_core as core
from corral.kinds.builtin import rules_groups as groups
from corral.kinds.builtin import rules_policy as policy
from corral.kinds.builtin import rules_workloads as workloads
from corral.kinds.builtin.resources import Row
from corral.kinds.builtin.strategy import BuiltinStrategy
from corral.kinds.crd import check_definition, prepare_definition
from corral.kinds.types import Obj
from corral.kinds.validation import dns_1035_label, dns_label, path_segment

_JOB_LABELS = ("batch.kubernetes.io/job-name", "job-name")
_UID_LABELS = ("batch.kubernetes.io/controller-uid", "controller-uid")


def _create_namespace(namespace: Obj) -> None:
    namespace["status"] = {"phase": "Active"}
    spec = namespace.setdefault("spec", {})
    names = spec.setdefault("finalizers", [])
    if "kubernetes" not in names:
        names.append("kubernetes")


def _update_namespace(namespace: Obj, old: Obj) -> None:
    """Its finalizers change through `namespaces/finalize` only."""
    if "spec" in old:
        namespace["spec"] = old["spec"]


def _pending(obj: Obj) -> None:
    obj["status"] = {"phase": "Pending"}


def _create_job(job: Obj) -> None:
    """Pods find their Job by its uid. `metadata.uid` and the name are set."""
    spec = job.get("spec") or {}
    template = spec.get("template")
    if spec.get("manualSelector") or template is None:
        return
    metadata = job["metadata"]
    inner: Obj = template.setdefault("metadata", {})
    if inner.get("labels") is None:
        inner["labels"] = {}
    labels: Obj = inner["labels"]
    for names, value in ((_UID_LABELS, metadata.get("uid")), (_JOB_LABELS, metadata.get("name"))):
        if value:
            for name in names:
                labels[name] = value
    if metadata.get("uid"):
        selector: Obj = spec.get("selector") or {}
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), _UID_LABELS[0]: metadata["uid"]}
        spec["selector"] = selector


def _create_daemon_set(obj: Obj) -> None:
    """Before apps/v1 the template counted on its own; the annotation is what tools still read."""
    annotations = obj["metadata"].setdefault("annotations", {})
    annotations.setdefault("deprecated.daemonset.template.generation", "1")


def _create_csr(obj: Obj) -> None:
    spec = obj.get("spec") or {}
    if not spec.get("usages"):
        spec["usages"] = ["digital signature", "key encipherment"]


_RULES: Mapping[str, Mapping[str, Any]] = {
    "apiextensions.v1.CustomResourceDefinition": {"create": prepare_definition, "check": check_definition},
    "apps.v1.ControllerRevision": {"check": policy.check_controller_revision},
    "apps.v1.DaemonSet": {"create": _create_daemon_set, "check": workloads.check_daemon_set},
    "apps.v1.Deployment": {"check": workloads.check_deployment},
    "apps.v1.ReplicaSet": {"check": workloads.check_replica_set},
    "apps.v1.StatefulSet": {"check": workloads.check_stateful_set},
    "autoscaling.v1.HorizontalPodAutoscaler": {"check": workloads.check_autoscaler},
    "autoscaling.v2.HorizontalPodAutoscaler": {"check": workloads.check_autoscaler},
    "batch.v1.CronJob": {"check": workloads.check_cron_job},
    "batch.v1.Job": {"create": _create_job, "check": workloads.check_job},
    "certificates.v1.CertificateSigningRequest": {"create": _create_csr, "name_rule": path_segment},
    "core.v1.ConfigMap": {"check": core.check_config_map},
    "core.v1.Endpoints": {"check": core.check_endpoints},
    "core.v1.Event": {"check": core.check_event},
    "core.v1.LimitRange": {"check": core.check_limit_range},
    "core.v1.Namespace": {
        "create": _create_namespace,
        "update": _update_namespace,
        "check": core.check_namespace,
        "name_rule": dns_label,
    },
    "core.v1.Node": {"status_on_create": True, "check": core.check_node},
    "core.v1.PersistentVolume": {"create": _pending, "check": core.check_volume},
    "core.v1.PersistentVolumeClaim": {"create": _pending, "check": core.check_claim},
    "core.v1.Pod": {"create": pods.prepare_create, "update": pods.prepare_update, "check": pods.check},
    "core.v1.ReplicationController": {"check": workloads.check_replication_controller},
    "core.v1.ResourceQuota": {"check": core.check_quota},
    "core.v1.Secret": {
        "create": core.merge_string_data,
        "update": core.merge_string_data,
        "check": core.check_secret,
    },
    "core.v1.Service": {
        "update": core.keep_cluster_address,
        "check": core.check_service,
        "name_rule": dns_1035_label,
    },
    "coordination.v1.Lease": {"check": policy.check_lease},
    "events.v1.Event": {"check": core.check_event},
    "networking.v1.Ingress": {"check": policy.check_ingress},
    "networking.v1.IngressClass": {"check": policy.check_ingress_class},
    "networking.v1.NetworkPolicy": {"check": policy.check_network_policy},
    "networking.v1.IPAddress": {"name_rule": path_segment},
    "node.v1.RuntimeClass": {"check": policy.check_runtime_class},
    "policy.v1.PodDisruptionBudget": {"check": workloads.check_disruption_budget},
    "rbac.v1.ClusterRole": {"check": policy.check_role, "name_rule": path_segment},
    "rbac.v1.ClusterRoleBinding": {"check": policy.check_binding, "name_rule": path_segment},
    "rbac.v1.Role": {"check": policy.check_role, "name_rule": path_segment},
    "rbac.v1.RoleBinding": {"check": policy.check_binding, "name_rule": path_segment},
    "scheduling.v1.PriorityClass": {"check": policy.check_priority_class},
    "scheduling.v1alpha2.PodGroup": {"create": groups.drop_disabled, "check": groups.check_pod_group},
    "scheduling.v1alpha2.Workload": {"create": groups.drop_disabled, "check": groups.check_workload},
    "storage.v1.StorageClass": {"check": policy.check_storage_class},
}


def strategy_of(row: Row) -> BuiltinStrategy:
    """The strategy of one row."""
    return BuiltinStrategy(
        namespaced=row.resource.namespaced,
        has_status="status" in row.subresources,
        counts_generation=row.generation,
        **_RULES.get(row.definition, {}),
    )
