"""Roles of the parts that make a cell: scheduler, controller manager, agents."""

from corral.apiserver.auth.bootstrap.build import (
    READ,
    account,
    allow,
    binding,
    cluster_binding,
    cluster_role,
    events,
    group,
    role,
    user,
)
from corral.kinds.types import Obj

_SCHEDULER = "system:kube-scheduler"
_MANAGER = "system:kube-controller-manager"
_LEASES = "coordination.k8s.io"


def component_objects() -> list[Obj]:
    return [
        cluster_role(_SCHEDULER, _scheduler()),
        cluster_binding(_SCHEDULER, _SCHEDULER, user(_SCHEDULER)),
        cluster_role(_MANAGER, _manager()),
        cluster_binding(_MANAGER, _MANAGER, user(_MANAGER)),
        # Kept for tools that look for it; agents are allowed by the Node authorizer, not by a binding.
        cluster_role("system:node", _node()),
        cluster_binding("system:node", "system:node"),
        cluster_role("system:kubelet-api-admin", _agent_api()),
        cluster_binding("system:kubelet-api-admin", "system:kubelet-api-admin", user("kube-apiserver-kubelet-client")),
        cluster_role(
            "system:node-bootstrapper",
            [allow(f"create {READ}", "certificatesigningrequests", "certificates.k8s.io")],
        ),
        cluster_binding("corral:node-bootstrappers", "system:node-bootstrapper", group("system:bootstrappers")),
        # So that a new machine can see whether its name is free, as kubeadm's does.
        cluster_role("corral:get-nodes", [allow("get", "nodes")]),
        cluster_binding("corral:get-nodes", "corral:get-nodes", group("system:bootstrappers")),
        cluster_role("system:node-problem-detector", [allow("get", "nodes"), allow("patch", "nodes/status"), events()]),
        cluster_role("system:persistent-volume-provisioner", _provisioner()),
        cluster_role("system:volume-scheduler", _volume_scheduler()),
        cluster_binding("system:volume-scheduler", "system:volume-scheduler", user(_SCHEDULER)),
        cluster_role("system:kube-dns", [allow("list watch", "endpoints services")]),
        cluster_binding("system:kube-dns", "system:kube-dns", account("kube-system", "kube-dns")),
        cluster_role("system:node-proxier", _proxier()),
        cluster_binding("system:node-proxier", "system:node-proxier", user("system:kube-proxy")),
        *_leader_election("kube-scheduler", user(_SCHEDULER)),
        *_leader_election("kube-controller-manager", user(_MANAGER)),
        role("kube-system", "extension-apiserver-authentication-reader", _authentication_reader()),
        binding(
            "kube-system",
            "system::extension-apiserver-authentication-reader",
            "extension-apiserver-authentication-reader",
            user(_MANAGER),
            user(_SCHEDULER),
        ),
    ]


def _scheduler() -> list[Obj]:
    return [
        events(),
        allow(f"create {READ}", "leases", _LEASES),
        allow("get update", "leases", _LEASES, names="kube-scheduler corral-scheduler"),
        allow(READ, "nodes namespaces services replicationcontrollers"),
        allow(f"{READ} delete", "pods"),
        allow("create", "bindings pods/binding"),
        allow("patch update", "pods/status"),
        allow(READ, "replicasets statefulsets", "apps"),
        allow(READ, "poddisruptionbudgets", "policy"),
        allow(READ, "priorityclasses", "scheduling.k8s.io"),
        allow(READ, "podgroups", "scheduling.k8s.io scheduling.x-k8s.io"),
        allow(READ, "persistentvolumeclaims persistentvolumes"),
        allow("create", "tokenreviews", "authentication.k8s.io"),
        allow("create", "subjectaccessreviews", "authorization.k8s.io"),
        allow(READ, "csinodes csidrivers csistoragecapacities volumeattachments storageclasses", "storage.k8s.io"),
    ]


def _manager() -> list[Obj]:
    return [
        events(),
        allow(f"create {READ} update", "leases", _LEASES),
        allow("create", "secrets serviceaccounts"),
        allow("delete", "secrets"),
        allow("get", "namespaces secrets serviceaccounts configmaps"),
        allow("update", "secrets serviceaccounts"),
        allow("create", "tokenreviews", "authentication.k8s.io"),
        allow("create", "subjectaccessreviews", "authorization.k8s.io"),
        allow("list watch", "*", "*"),
        allow("create", "serviceaccounts/token"),
    ]


def _node() -> list[Obj]:
    return [
        allow("create", "tokenreviews", "authentication.k8s.io"),
        allow("create", "subjectaccessreviews localsubjectaccessreviews", "authorization.k8s.io"),
        allow(READ, "services"),
        allow(f"create {READ} patch update", "nodes"),
        allow("patch update", "nodes/status pods/status"),
        events(),
        allow(f"create delete {READ}", "pods"),
        allow("create", "pods/eviction serviceaccounts/token"),
        allow(READ, "configmaps secrets"),
        allow("get", "persistentvolumeclaims persistentvolumes serviceaccounts"),
        allow("create delete get patch update", "leases", _LEASES),
        allow("create delete get patch update", "csinodes", "storage.k8s.io"),
        allow(READ, "csidrivers", "storage.k8s.io"),
        allow(READ, "runtimeclasses", "node.k8s.io"),
        allow("get", "sources", "corral.dev"),
        allow(READ, "hostsubnets", "corral.dev"),
    ]


def _agent_api() -> list[Obj]:
    return [
        allow(READ, "nodes"),
        allow("proxy", "nodes"),
        allow("*", "nodes/proxy nodes/metrics nodes/stats nodes/log nodes/healthz nodes/configz nodes/pods"),
    ]


def _provisioner() -> list[Obj]:
    return [
        allow(f"create delete {READ}", "persistentvolumes"),
        allow(f"{READ} update", "persistentvolumeclaims"),
        allow(READ, "storageclasses", "storage.k8s.io"),
        allow(READ, "nodes"),
        events(),
    ]


def _volume_scheduler() -> list[Obj]:
    return [
        allow(f"{READ} patch update", "persistentvolumes persistentvolumeclaims"),
        allow(READ, "storageclasses", "storage.k8s.io"),
    ]


def _proxier() -> list[Obj]:
    return [
        allow("list watch", "services endpoints"),
        allow(READ, "nodes"),
        allow("list watch", "endpointslices", "discovery.k8s.io"),
        events(),
    ]


def _authentication_reader() -> list[Obj]:
    return [allow(READ, "configmaps", names="extension-apiserver-authentication")]


def _leader_election(component: str, subject: Obj) -> list[Obj]:
    name = f"system::leader-locking-{component}"
    rules = [allow("watch", "configmaps"), allow("get update", "configmaps", names=component)]
    return [role("kube-system", name, rules), binding("kube-system", name, name, subject)]
