"""From a workload to the pods that its controller would make of it, as far as placing them goes. Pure.

Expansion is in two steps, so that one pod of each workload can be admitted by the API server in between: `model` is
that pod, `pods` is the model once for each replica, index or machine, with the names and labels that tell them apart.
Pods are planned for one moment: a CronJob is one run of its Job, a Job its first wave, a Deployment all replicas of the
new template.
"""

from collections.abc import Iterable, Iterator, Sequence

from corral.kinds.daemons import belongs, pinned, pinned_to, tolerations
from corral.kinds.podtemplate import from_template
from corral.kinds.resources import (
    COSCHEDULING_POD_GROUPS,
    CRON_JOBS,
    DAEMON_SETS,
    DEPLOYMENTS,
    JOBS,
    PERSISTENT_VOLUME_CLAIMS,
    POD_GROUPS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)
from corral.kinds.types import Obj, Resource

WORKLOADS: dict[tuple[str, str], Resource] = {
    (resource.api_version, resource.kind): resource
    for resource in (
        PODS,
        DEPLOYMENTS,
        REPLICA_SETS,
        REPLICATION_CONTROLLERS,
        STATEFUL_SETS,
        DAEMON_SETS,
        JOBS,
        CRON_JOBS,
    )
}
"""By apiVersion and kind, what has pods."""

GROUPS = {
    (resource.api_version, resource.kind): resource
    for resource in (POD_GROUPS, COSCHEDULING_POD_GROUPS, PERSISTENT_VOLUME_CLAIMS)
}
"""By apiVersion and kind, what pods may belong to, or use."""

_INDEX = "batch.kubernetes.io/job-completion-index"
_NEW_HASH = {"pod-template-hash": "planned"}
"""Unlike that of any ReplicaSet: spreading by `matchLabelKeys` counts the new pods apart from the old ones."""


def model(workload: Obj) -> Obj:
    """One pod of `workload`, as its controller would send it to the API server; the workload is a defaulted one."""
    kind, spec = workload["kind"], workload["spec"]
    if kind == PODS.kind:
        return workload
    if kind == CRON_JOBS.kind:
        spec = spec["jobTemplate"]["spec"]
    pod = from_template(spec["template"], workload)
    if kind == DEPLOYMENTS.kind:
        pod["metadata"]["labels"] |= _NEW_HASH
    elif kind == DAEMON_SETS.kind:
        pod["spec"]["tolerations"] = tolerations(pod["spec"])
    elif kind == STATEFUL_SETS.kind:
        # Claims are made with the pods; before that nothing is known of where their volumes will be.
        claimed = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates") or ()}
        for container in (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]):
            mounts = [mount for mount in container.get("volumeMounts") or () if mount["name"] not in claimed]
            container["volumeMounts"] = mounts
    return pod


def without_own_claims(pod: Obj) -> Obj:
    """`pod` without its `ephemeral` volumes: their claims are made with it, too, wherever it goes."""
    spec = pod["spec"]
    kept = [volume for volume in spec.get("volumes") or () if "ephemeral" not in volume]
    return {**pod, "spec": {**spec, "volumes": kept}} if "volumes" in spec else pod


def size(workload: Obj, nodes: Sequence[Obj]) -> int:
    """How many pods `pods` gives."""
    if workload["kind"] == DAEMON_SETS.kind:
        return len(_machines(workload, nodes))
    return len(_ordinals(workload))


def pods(workload: Obj, admitted: Obj, nodes: Sequence[Obj]) -> Iterator[tuple[str, Obj]]:
    """The names and the pods of `workload`; pods that are alike but for their names are one and the same object.

    Args:
        admitted: its `model`, with what defaulting and admission made of it.
        nodes: the machines that a daemon may be for.
    """
    kind, name = workload["kind"], workload["metadata"]["name"]
    if kind == PODS.kind:
        yield name, admitted
    elif kind == DAEMON_SETS.kind:
        for machine in _machines(workload, nodes):
            affinity = pinned(admitted["spec"].get("affinity"), machine)
            yield f"{name}-{machine}", {**admitted, "spec": {**admitted["spec"], "affinity": affinity}}
    else:
        for ordinal in _ordinals(workload):
            own = _labels(workload, f"{name}-{ordinal}", ordinal)
            yield f"{name}-{ordinal}", _labelled(admitted, own) if own else admitted


def missing(workload: Obj, wanted: Iterable[tuple[str, Obj]], there: Sequence[Obj]) -> dict[str, Obj]:
    """Those of the `wanted` pods, by name, whose place none of the pods that are `there` has."""
    kind, name = workload["kind"], workload["metadata"]["name"]
    if kind == STATEFUL_SETS.kind:
        taken = {pod["metadata"]["name"] for pod in there}
    elif kind == DAEMON_SETS.kind:
        taken = {f"{name}-{pinned_to(pod)}" for pod in there}
    else:
        return dict(list(wanted)[len(there) :])
    return {each: pod for each, pod in wanted if each not in taken}


def _machines(workload: Obj, nodes: Sequence[Obj]) -> list[str]:
    spec = workload["spec"]["template"]["spec"]
    return sorted(node["metadata"]["name"] for node in nodes if belongs(spec, node)[0])


def _ordinals(workload: Obj) -> range:
    kind, spec = workload["kind"], workload["spec"]
    if kind == PODS.kind:
        return range(1)
    if kind == CRON_JOBS.kind:
        return _of_job(spec["jobTemplate"]["spec"])
    if kind == JOBS.kind:
        return _of_job(spec)
    start = int((spec.get("ordinals") or {}).get("start") or 0)
    return range(start, start + int(spec.get("replicas", 1)))


def _of_job(spec: Obj) -> range:
    parallelism = int(spec.get("parallelism", 1))
    return range(parallelism if spec.get("completions") is None else min(parallelism, int(spec["completions"])))


def _labels(workload: Obj, name: str, ordinal: int) -> dict[str, str]:
    """Labels in which pods of one workload differ."""
    kind, spec = workload["kind"], workload["spec"]
    if kind == STATEFUL_SETS.kind:
        return {"statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": str(ordinal)}
    if kind == CRON_JOBS.kind:
        spec = spec["jobTemplate"]["spec"]
    return {_INDEX: str(ordinal)} if spec.get("completionMode") == "Indexed" else {}


def _labelled(pod: Obj, labels: dict[str, str]) -> Obj:
    metadata = pod["metadata"]
    return {**pod, "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), **labels}}}
