"""admin, edit and view: what people and pipelines get in their own namespaces.

Each is aggregated from roles labelled for it, so that a custom resource's author can add to them.
"""

from corral.apiserver.auth.bootstrap.build import READ, WRITE, aggregate, allow, cluster_role
from corral.kinds.types import Obj

_TO_ADMIN = "rbac.authorization.k8s.io/aggregate-to-admin"
_TO_EDIT = "rbac.authorization.k8s.io/aggregate-to-edit"
_TO_VIEW = "rbac.authorization.k8s.io/aggregate-to-view"

_QUEUES = "kueue.x-k8s.io"
_CORE = "configmaps endpoints persistentvolumeclaims pods replicationcontrollers replicationcontrollers/scale services"
_CORE_STATUS = (
    "bindings events limitranges namespaces/status persistentvolumeclaims/status pods/log pods/status "
    "replicationcontrollers/status resourcequotas resourcequotas/status services/status"
)
_APPS = "daemonsets deployments deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale"
_APPS_STATUS = "controllerrevisions daemonsets/status deployments/status replicasets/status statefulsets/status"


def workload_objects() -> list[Obj]:
    return [
        aggregate("admin", [_TO_ADMIN]),
        aggregate("edit", [_TO_EDIT], {_TO_ADMIN: "true"}),
        aggregate("view", [_TO_VIEW], {_TO_EDIT: "true"}),
        cluster_role("system:aggregate-to-admin", _admin(), {_TO_ADMIN: "true"}),
        cluster_role("system:aggregate-to-edit", _edit(), {_TO_EDIT: "true"}),
        cluster_role("system:aggregate-to-view", _view(), {_TO_VIEW: "true"}),
        *_queue_objects(),
    ]


def _queue_objects() -> list[Obj]:
    """Kueue's two roles under its names, given on as it gives them: who edits a namespace sees its queues and puts
    Jobs into them; who administers it makes LocalQueues; quota is the cell's administrator's."""
    namespaced, cellwide = "localqueues workloads", "clusterqueues cohorts resourceflavors workloadpriorityclasses"
    statuses = "clusterqueues/status localqueues/status workloads/status"
    seeing = [
        allow(READ, f"{namespaced} {statuses} resourceflavors workloadpriorityclasses", _QUEUES),
        allow("get", "localqueues/pending", "corral.dev"),
    ]
    local = [allow(f"{READ} {WRITE}", namespaced, _QUEUES), allow(READ, f"{cellwide} {statuses}", _QUEUES)]
    everything = [
        allow(f"{READ} {WRITE}", f"{namespaced} {cellwide}", _QUEUES),
        allow(READ, statuses, _QUEUES),
        allow("get", "clusterqueues/pending localqueues/pending", "corral.dev"),
    ]
    return [
        cluster_role("kueue-batch-user-role", seeing, {_TO_VIEW: "true"}),
        cluster_role("system:aggregate-queues-to-admin", local, {_TO_ADMIN: "true"}),
        cluster_role("kueue-batch-admin-role", everything),
    ]


def _admin() -> list[Obj]:
    return [
        allow("create", "localsubjectaccessreviews", "authorization.k8s.io"),
        allow(f"{READ} {WRITE}", "roles rolebindings", "rbac.authorization.k8s.io"),
    ]


def _edit() -> list[Obj]:
    return [
        allow(READ, "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
        allow("impersonate", "serviceaccounts"),
        allow(WRITE, "pods pods/attach pods/exec pods/portforward pods/proxy"),
        allow("create", "pods/eviction"),
        allow(WRITE, "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale"),
        allow(WRITE, "secrets serviceaccounts services services/proxy"),
        allow("create", "serviceaccounts/token"),
        allow(WRITE, f"{_APPS} deployments/rollback", "apps"),
        allow(WRITE, "cronjobs jobs", "batch"),
        allow(WRITE, "horizontalpodautoscalers", "autoscaling"),
        allow(WRITE, "poddisruptionbudgets", "policy"),
        allow(WRITE, "podgroups workloads", "scheduling.k8s.io scheduling.x-k8s.io"),
        allow(WRITE, "ingresses networkpolicies", "networking.k8s.io"),
        allow(f"{READ} {WRITE}", "leases", "coordination.k8s.io"),
        # Sources are content-addressed uploads: whoever may run a program may send it, and fetch its results.
        allow("create get update patch", "sources", "corral.dev"),
        allow("get create", "pods/files", "corral.dev"),
        # A plan goes by what its asker may create, and says what other pods would have to go.
        allow("create", "plans", "corral.dev"),
    ]


def _view() -> list[Obj]:
    return [
        allow(READ, f"{_CORE} serviceaccounts"),
        allow(READ, _CORE_STATUS),
        allow(READ, "namespaces"),
        allow(READ, "endpointslices", "discovery.k8s.io"),
        allow(READ, f"{_APPS} {_APPS_STATUS}", "apps"),
        allow(READ, "cronjobs cronjobs/status jobs jobs/status", "batch"),
        allow(READ, "horizontalpodautoscalers horizontalpodautoscalers/status", "autoscaling"),
        allow(READ, "poddisruptionbudgets poddisruptionbudgets/status", "policy"),
        allow(READ, "podgroups podgroups/status workloads", "scheduling.k8s.io scheduling.x-k8s.io"),
        allow(READ, "ingresses ingresses/status networkpolicies", "networking.k8s.io"),
        allow(READ, "pods", "metrics.k8s.io"),
        allow("get", "pods/why", "corral.dev"),
    ]
