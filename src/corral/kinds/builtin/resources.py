"""The resources that Kubernetes 1.36 serves by default, as rows: stable versions; beta ones are off by default.

Of the alpha ones there are the groups of pods that the scheduler places together (feature gate GenericWorkload)."""

from collections.abc import Mapping
from dataclasses import dataclass

from corral.kinds.types import Resource

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CREATE_ONLY = ("create",)


@dataclass(frozen=True, slots=True)
class Row:
    """One served version of one resource."""

    resource: Resource
    definition: str
    """Short name of its definition: `core.v1.Pod`."""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    selectable: tuple[str, ...] = ()
    scale: Mapping[str, str] | None = None
    generation: bool = False
    """Whether `metadata.generation` counts changes of what is wanted."""
    stored_as: str = ""
    """The `apiVersion` that its objects are stored in, when it is another."""


_MATCH_SCALE = {"spec": "spec.replicas", "status": "status.replicas", "selector": "spec.selector"}
_ALL = ("all",)
_API = ("api-extensions",)
_EVENT_FIELDS = (
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)
_NEW_EVENT_FIELDS = (
    *(name.replace("involvedObject", "regarding") for name in _EVENT_FIELDS),
    "reportingController",
)
_POD_FIELDS = (
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
)
_POD_SUBRESOURCES = (
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "log",
    "portforward",
    "proxy",
    "resize",
    "status",
)


class _Group:
    """Writes rows of one group and version."""

    def __init__(self, group: str, version: str, package: str = "") -> None:
        self.group = group
        self.version = version
        self.package = package or group.split(".", 1)[0] or "core"

    def row(
        self,
        plural: str,
        kind: str,
        short: str = "",
        *,
        cluster: bool = False,
        sub: tuple[str, ...] = (),
        categories: tuple[str, ...] = (),
        verbs: tuple[str, ...] = ALL_VERBS,
        selectable: tuple[str, ...] = (),
        scale: Mapping[str, str] | None = None,
        generation: bool = False,
        stored_as: str = "",
    ) -> Row:
        """One row; `short` has the short names, blank-separated."""
        return Row(
            Resource(self.group, self.version, plural, kind, not cluster),
            f"{self.package}.{self.version}.{kind}",
            tuple(short.split()),
            categories,
            sub,
            verbs,
            selectable,
            scale,
            generation,
            stored_as,
        )


def _core() -> list[Row]:
    v1 = _Group("", "v1").row
    status = ("status",)
    return [
        v1("bindings", "Binding", verbs=CREATE_ONLY),
        v1("configmaps", "ConfigMap", "cm"),
        v1("endpoints", "Endpoints", "ep"),
        v1("events", "Event", "ev", selectable=_EVENT_FIELDS),
        v1("limitranges", "LimitRange", "limits"),
        v1("namespaces", "Namespace", "ns", cluster=True, sub=("finalize", "status"), selectable=("status.phase",)),
        v1("nodes", "Node", "no", cluster=True, sub=("proxy", "status"), selectable=("spec.unschedulable",)),
        v1("persistentvolumeclaims", "PersistentVolumeClaim", "pvc", sub=status),
        v1("persistentvolumes", "PersistentVolume", "pv", cluster=True, sub=status),
        v1(
            "pods",
            "Pod",
            "po",
            categories=_ALL,
            sub=_POD_SUBRESOURCES,
            selectable=_POD_FIELDS,
            generation=True,
        ),
        v1("podtemplates", "PodTemplate", generation=True),
        v1(
            "replicationcontrollers",
            "ReplicationController",
            "rc",
            categories=_ALL,
            sub=("scale", "status"),
            selectable=("status.replicas",),
            scale=_MATCH_SCALE,
            generation=True,
        ),
        v1("resourcequotas", "ResourceQuota", "quota", sub=status),
        v1("secrets", "Secret", selectable=("type",)),
        v1("serviceaccounts", "ServiceAccount", "sa", sub=("token",)),
        v1(
            "services",
            "Service",
            "svc",
            categories=_ALL,
            sub=("proxy", "status"),
            selectable=("spec.clusterIP", "spec.type"),
        ),
    ]


def _workloads() -> list[Row]:
    apps = _Group("apps", "v1").row
    batch = _Group("batch", "v1").row
    scaled = ("scale", "status")
    return [
        apps("controllerrevisions", "ControllerRevision"),
        apps("daemonsets", "DaemonSet", "ds", categories=_ALL, sub=("status",), generation=True),
        apps("deployments", "Deployment", "deploy", categories=_ALL, sub=scaled, scale=_MATCH_SCALE, generation=True),
        apps(
            "replicasets",
            "ReplicaSet",
            "rs",
            categories=_ALL,
            sub=scaled,
            selectable=("status.replicas",),
            scale=_MATCH_SCALE,
            generation=True,
        ),
        apps("statefulsets", "StatefulSet", "sts", categories=_ALL, sub=scaled, scale=_MATCH_SCALE, generation=True),
        batch("cronjobs", "CronJob", "cj", categories=_ALL, sub=("status",), generation=True),
        batch("jobs", "Job", categories=_ALL, sub=("status",), selectable=("status.successful",), generation=True),
    ]


def _reviews() -> list[Row]:
    authentication = _Group("authentication.k8s.io", "v1").row
    authorization = _Group("authorization.k8s.io", "v1").row
    return [
        authentication("selfsubjectreviews", "SelfSubjectReview", cluster=True, verbs=CREATE_ONLY),
        authentication("tokenreviews", "TokenReview", cluster=True, verbs=CREATE_ONLY),
        authorization("localsubjectaccessreviews", "LocalSubjectAccessReview", verbs=CREATE_ONLY),
        authorization("selfsubjectaccessreviews", "SelfSubjectAccessReview", cluster=True, verbs=CREATE_ONLY),
        authorization("selfsubjectrulesreviews", "SelfSubjectRulesReview", cluster=True, verbs=CREATE_ONLY),
        authorization("subjectaccessreviews", "SubjectAccessReview", cluster=True, verbs=CREATE_ONLY),
    ]


def _policy() -> list[Row]:
    rbac = _Group("rbac.authorization.k8s.io", "v1").row
    policy = _Group("policy", "v1").row
    autoscaling = _Group("autoscaling", "v2").row
    autoscaling_v1 = _Group("autoscaling", "v1").row
    scheduling = _Group("scheduling.k8s.io", "v1").row
    groups = _Group("scheduling.k8s.io", "v1alpha2").row
    hpa = ("horizontalpodautoscalers", "HorizontalPodAutoscaler", "hpa")
    return [
        autoscaling(*hpa, categories=_ALL, sub=("status",)),
        autoscaling_v1(*hpa, categories=_ALL, sub=("status",), stored_as="autoscaling/v2"),
        policy("poddisruptionbudgets", "PodDisruptionBudget", "pdb", sub=("status",), generation=True),
        rbac("clusterrolebindings", "ClusterRoleBinding", cluster=True),
        rbac("clusterroles", "ClusterRole", cluster=True),
        rbac("rolebindings", "RoleBinding"),
        rbac("roles", "Role"),
        scheduling("priorityclasses", "PriorityClass", "pc", cluster=True, generation=True),
        groups("podgroups", "PodGroup", sub=("status",), generation=True),
        groups("workloads", "Workload", generation=True),
    ]


def _network() -> list[Row]:
    discovery = _Group("discovery.k8s.io", "v1").row
    networking = _Group("networking.k8s.io", "v1").row
    events = _Group("events.k8s.io", "v1").row
    return [
        discovery("endpointslices", "EndpointSlice", generation=True),
        events("events", "Event", "ev", selectable=_NEW_EVENT_FIELDS, stored_as="v1"),
        networking("ingressclasses", "IngressClass", cluster=True, generation=True),
        networking("ingresses", "Ingress", "ing", sub=("status",), generation=True),
        networking("ipaddresses", "IPAddress", "ip", cluster=True, selectable=("spec.parentRef",)),
        networking("networkpolicies", "NetworkPolicy", "netpol", generation=True),
        networking("servicecidrs", "ServiceCIDR", cluster=True, sub=("status",)),
    ]


def _machines() -> list[Row]:
    certificates = _Group("certificates.k8s.io", "v1").row
    coordination = _Group("coordination.k8s.io", "v1").row
    node = _Group("node.k8s.io", "v1").row
    storage = _Group("storage.k8s.io", "v1").row
    resource = _Group("resource.k8s.io", "v1").row
    return [
        certificates(
            "certificatesigningrequests",
            "CertificateSigningRequest",
            "csr",
            cluster=True,
            sub=("approval", "status"),
            selectable=("spec.signerName",),
        ),
        coordination("leases", "Lease"),
        node("runtimeclasses", "RuntimeClass", cluster=True),
        resource("deviceclasses", "DeviceClass", cluster=True, generation=True),
        resource("resourceclaims", "ResourceClaim", sub=("status",)),
        resource("resourceclaimtemplates", "ResourceClaimTemplate"),
        resource(
            "resourceslices",
            "ResourceSlice",
            cluster=True,
            selectable=("spec.driver", "spec.nodeName"),
            generation=True,
        ),
        storage("csidrivers", "CSIDriver", cluster=True, generation=True),
        storage("csinodes", "CSINode", cluster=True),
        storage("csistoragecapacities", "CSIStorageCapacity"),
        storage("storageclasses", "StorageClass", "sc", cluster=True),
        storage("volumeattachments", "VolumeAttachment", cluster=True, sub=("status",)),
        storage("volumeattributesclasses", "VolumeAttributesClass", "vac", cluster=True),
    ]


def _server() -> list[Row]:
    admission = _Group("admissionregistration.k8s.io", "v1").row
    flow = _Group("flowcontrol.apiserver.k8s.io", "v1").row
    extensions = _Group("apiextensions.k8s.io", "v1").row
    registration = _Group("apiregistration.k8s.io", "v1").row
    return [
        admission(
            "mutatingadmissionpolicies", "MutatingAdmissionPolicy", categories=_API, cluster=True, generation=True
        ),
        admission(
            "mutatingadmissionpolicybindings",
            "MutatingAdmissionPolicyBinding",
            categories=_API,
            cluster=True,
            generation=True,
        ),
        admission(
            "mutatingwebhookconfigurations",
            "MutatingWebhookConfiguration",
            categories=_API,
            cluster=True,
            generation=True,
        ),
        admission(
            "validatingadmissionpolicies",
            "ValidatingAdmissionPolicy",
            categories=_API,
            sub=("status",),
            cluster=True,
            generation=True,
        ),
        admission(
            "validatingadmissionpolicybindings",
            "ValidatingAdmissionPolicyBinding",
            categories=_API,
            cluster=True,
            generation=True,
        ),
        admission(
            "validatingwebhookconfigurations",
            "ValidatingWebhookConfiguration",
            categories=_API,
            cluster=True,
            generation=True,
        ),
        extensions(
            "customresourcedefinitions",
            "CustomResourceDefinition",
            "crd crds",
            categories=_API,
            sub=("status",),
            cluster=True,
            generation=True,
        ),
        registration("apiservices", "APIService", categories=_API, sub=("status",), cluster=True),
        flow("flowschemas", "FlowSchema", sub=("status",), cluster=True, generation=True),
        flow(
            "prioritylevelconfigurations", "PriorityLevelConfiguration", sub=("status",), cluster=True, generation=True
        ),
    ]


def rows() -> list[Row]:
    """Every row, by group in the order of discovery; of one group the preferred version first."""
    return [*_core(), *_server(), *_workloads(), *_reviews(), *_policy(), *_network(), *_machines()]
