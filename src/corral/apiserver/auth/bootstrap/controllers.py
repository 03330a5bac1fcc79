"""A role and a binding for each built-in controller: it acts as its own service account, with just what it needs.

A controller NAME is `system:serviceaccount:kube-system:NAME`; its role is `system:controller:NAME`.
"""

from collections.abc import Mapping, Sequence

from corral.apiserver.auth.bootstrap.build import (
    READ,
    account,
    allow,
    binding,
    cluster_binding,
    cluster_role,
    events,
    role,
)
from corral.kinds.types import Obj

_PODS = f"create delete patch {READ} update"
_CHANGE = "get list patch update watch"
_SIGNERS = "kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving"
_QUEUES = "kueue.x-k8s.io"
_REPAIRS = "corral.dev"
_NOTIFIER = "repair-notifier"


def controller_objects() -> list[Obj]:
    objects: list[Obj] = []
    for name, rules in _roles().items():
        full = f"system:controller:{name}"
        objects.append(cluster_role(full, [*rules, events()]))
        objects.append(cluster_binding(full, full, account("kube-system", name)))
    full = f"system:controller:{_NOTIFIER}"
    objects.append(role("kube-system", full, [allow("get", "secrets", names="repair-notifications")]))
    objects.append(binding("kube-system", full, full, account("kube-system", _NOTIFIER)))
    return objects


def _roles() -> Mapping[str, Sequence[Obj]]:
    return {
        **_cell_roles(),
        **_app_roles(),
        **_batch_roles(),
        **_node_roles(),
        **_repair_roles(),
        **_network_roles(),
        **_storage_roles(),
    }


def _cell_roles() -> Mapping[str, Sequence[Obj]]:
    return {
        "namespace-controller": [
            allow(f"delete {READ}", "namespaces"),
            allow("patch update", "namespaces/finalize namespaces/status"),
            allow("delete deletecollection get list", "*", "*"),
        ],
        "generic-garbage-collector": [allow("delete get list patch update watch", "*", "*")],
        "service-account-controller": [
            allow(f"create {READ}", "serviceaccounts"),
            allow(READ, "namespaces"),
        ],
        "root-ca-cert-publisher": [
            allow(f"create update patch {READ}", "configmaps"),
            allow(READ, "namespaces"),
        ],
        "clusterrole-aggregation-controller": [
            allow("escalate get list patch update watch", "clusterroles", "rbac.authorization.k8s.io")
        ],
        "certificate-controller": [
            allow(f"delete {READ}", "certificatesigningrequests", "certificates.k8s.io"),
            allow(READ, "nodes"),
            allow(
                "update", "certificatesigningrequests/status certificatesigningrequests/approval", "certificates.k8s.io"
            ),
            allow("approve sign", "signers", "certificates.k8s.io", names=_SIGNERS),
            allow("create patch", "machineidentities", "corral.dev"),
        ],
        "resourcequota-controller": [allow("list watch", "*", "*"), allow("update patch", "resourcequotas/status")],
        "disruption-controller": [
            allow(READ, "deployments replicasets statefulsets", "apps"),
            allow(READ, "replicationcontrollers pods"),
            allow("patch update", "pods/status"),
            allow(READ, "poddisruptionbudgets", "policy"),
            allow("update patch", "poddisruptionbudgets/status", "policy"),
            allow("get", "*/scale", "*"),
        ],
    }


def _app_roles() -> Mapping[str, Sequence[Obj]]:
    return {
        "deployment-controller": [
            allow(_CHANGE, "deployments", "apps"),
            allow("update patch", "deployments/status deployments/finalizers", "apps"),
            allow(_PODS, "replicasets", "apps"),
            allow("update patch", "replicasets/status", "apps"),
            allow(_CHANGE, "pods"),
        ],
        "replicaset-controller": [
            allow(_CHANGE, "replicasets", "apps"),
            allow("update patch", "replicasets/status replicasets/finalizers", "apps"),
            allow(_PODS, "pods"),
        ],
        "statefulset-controller": [
            allow(_CHANGE, "statefulsets", "apps"),
            allow("update patch", "statefulsets/status statefulsets/finalizers", "apps"),
            allow(_PODS, "pods"),
            allow(_PODS, "controllerrevisions", "apps"),
            allow(f"create {READ} update delete patch", "persistentvolumeclaims"),
        ],
        "daemon-set-controller": [
            allow(_CHANGE, "daemonsets", "apps"),
            allow("update patch", "daemonsets/status daemonsets/finalizers", "apps"),
            allow(READ, "nodes"),
            allow(_PODS, "pods"),
            allow("create", "pods/binding"),
            allow(_PODS, "controllerrevisions", "apps"),
        ],
        "horizontal-pod-autoscaler": [
            allow(READ, "horizontalpodautoscalers", "autoscaling"),
            allow("update patch", "horizontalpodautoscalers/status", "autoscaling"),
            allow("get update patch", "*/scale", "*"),
            allow(READ, "pods"),
            allow("list get", "*", "metrics.k8s.io"),
        ],
    }


def _batch_roles() -> Mapping[str, Sequence[Obj]]:
    return {
        "job-controller": [
            allow(_CHANGE, "jobs", "batch"),
            allow("update patch", "jobs/status jobs/finalizers", "batch"),
            allow(_PODS, "pods"),
            allow(f"{READ} create", "podgroups", "scheduling.k8s.io"),
        ],
        "cronjob-controller": [
            allow(_CHANGE, "cronjobs", "batch"),
            allow("update patch", "cronjobs/status cronjobs/finalizers", "batch"),
            allow(_PODS, "jobs", "batch"),
            allow("list delete", "pods"),
        ],
        "ttl-after-finished-controller": [allow(f"{READ} delete", "jobs", "batch")],
        "queue-controller": [
            allow(READ, "clusterqueues cohorts localqueues resourceflavors workloads", _QUEUES),
            allow("update patch", "clusterqueues/status localqueues/status workloads/status", _QUEUES),
            allow(READ, "namespaces"),
        ],
        "queued-job-controller": [
            allow(_CHANGE, "jobs", "batch"),
            *_queued(),
        ],
        "queued-pod-controller": [allow(_PODS, "pods"), *_queued()],
    }


def _queued() -> list[Obj]:
    """What turns Jobs and pods into Workloads needs beside them."""
    return [
        allow(_PODS, "workloads", _QUEUES),
        allow("update patch", "workloads/status workloads/finalizers", _QUEUES),
        allow(READ, "resourceflavors workloadpriorityclasses", _QUEUES),
        allow(READ, "priorityclasses", "scheduling.k8s.io"),
    ]


def _pod_groups(api_group: str) -> Sequence[Obj]:
    return [
        allow(READ, "podgroups", api_group),
        allow("update patch", "podgroups/status", api_group),
        allow(f"{READ} delete", "pods"),
        allow("patch update", "pods/status"),
    ]


def _node_roles() -> Mapping[str, Sequence[Obj]]:
    return {
        "node-controller": [
            allow("get list watch update delete patch", "nodes"),
            allow("patch update", "nodes/status pods/status"),
            allow(f"{READ} delete", "pods"),
            allow(f"{READ} patch", "leases", "coordination.k8s.io"),
        ],
        "podgroup-controller": _pod_groups("scheduling.k8s.io"),
        "coscheduling-podgroup-controller": _pod_groups("scheduling.x-k8s.io"),
        "taint-eviction-controller": [
            allow(READ, "nodes"),
            allow(f"{READ} delete", "pods"),
            allow("patch update", "pods/status"),
        ],
        "pod-garbage-collector": [
            allow(f"{READ} delete", "pods"),
            allow("patch update", "pods/status"),
            allow(READ, "nodes"),
        ],
    }


def _repair_roles() -> Mapping[str, Sequence[Obj]]:
    return {
        "repair-controller": [
            allow(f"create delete {READ}", "repairs", _REPAIRS),
            allow("update patch", "repairs/status repairpolicies/status", _REPAIRS),
            allow(READ, "repairpolicies", _REPAIRS),
            allow(f"{READ} patch", "nodes"),
            allow("patch", "nodes/status"),
            allow(READ, "pods persistentvolumes"),
            allow("create", "pods/eviction"),
        ],
        "repair-remote-controller": [
            allow(READ, "repairs", _REPAIRS),
            allow("patch", "repairs/status", _REPAIRS),
            allow(READ, "nodes"),
        ],
        # The one Secret that it reads is granted in its namespace.
        _NOTIFIER: [allow(READ, "repairs", _REPAIRS), allow("patch", "repairs/status", _REPAIRS)],
    }


def _network_roles() -> Mapping[str, Sequence[Obj]]:
    return {
        "endpoint-controller": [
            allow(READ, "pods services"),
            allow("create delete get list update patch watch", "endpoints"),
            allow("create", "endpoints/restricted"),
        ],
        "endpointslice-controller": [
            allow(READ, "pods services nodes"),
            allow("update", "services/finalizers"),
            allow("create delete get list update patch watch", "endpointslices", "discovery.k8s.io"),
        ],
        "node-ipam-controller": [
            allow(f"{READ} patch", "nodes"),
            allow(f"create delete patch {READ}", "hostsubnets", "corral.dev"),
        ],
        "service-controller": [allow(READ, "services nodes"), allow("patch update", "services/status")],
    }


def _storage_roles() -> Mapping[str, Sequence[Obj]]:
    return {
        "persistent-volume-binder": [
            allow("create delete get list update patch watch", "persistentvolumes"),
            allow(_CHANGE, "persistentvolumeclaims"),
            allow("update patch", "persistentvolumes/status persistentvolumeclaims/status"),
            allow(READ, "storageclasses", "storage.k8s.io"),
            allow(READ, "pods nodes"),
        ],
        "pvc-protection-controller": [allow(_CHANGE, "persistentvolumeclaims"), allow(READ, "pods")],
        "ephemeral-volume-controller": [
            allow(READ, "pods"),
            allow("update", "pods/finalizers"),
            allow(f"create {READ}", "persistentvolumeclaims"),
        ],
        "corral-local-provisioner": [
            allow(f"create delete patch {READ}", "persistentvolumes"),
            allow(f"patch {READ}", "persistentvolumeclaims"),
            allow(READ, "storageclasses", "storage.k8s.io"),
            allow(READ, "nodes"),
        ],
        "pv-protection-controller": [allow(_CHANGE, "persistentvolumes")],
        "expand-controller": [
            allow(_CHANGE, "persistentvolumes persistentvolumeclaims"),
            allow("update patch", "persistentvolumeclaims/status"),
        ],
    }
