"""Queues: what is put into one does not start before it is admitted, and what a queue cannot mean is refused.

Holding back is done where objects are made, as Kueue's webhooks do, so that there is no moment at which a pod could
start: a Job with the queue's label is suspended, a pod gets a scheduling gate. A Job stays suspended, whatever is
written to it, until its Workload is admitted. Deployments and StatefulSets hand their label to their pods.
"""

from collections.abc import Iterable

from corral.apiserver.admission.api import Lookup, Operation, Review
from corral.base.quantities import parse
from corral.kinds import conditions
from corral.kinds.bundled.queues import GATE, MANAGED_LABEL, QUEUE_LABEL, owned_by, queue_name
from corral.kinds.kind import Kind
from corral.kinds.owners import controller_of
from corral.kinds.resources import DEPLOYMENTS, JOBS, PODS, STATEFUL_SETS, WORKLOADS
from corral.kinds.schema.causes import duplicate, forbidden
from corral.kinds.schema.causes import invalid as wrong
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import Cause, StatusError, invalid
from corral.kinds.types import Obj

_GROUP = "kueue.x-k8s.io"
_QUOTAS = ("ClusterQueue", "Cohort")


class QueuedWork:
    """Jobs, pods and those who make pods."""

    name = "QueuedWork"

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        if subresource or operation not in ("CREATE", "UPDATE"):
            return False
        if kind.resource == PODS:
            return operation == "CREATE"
        return kind.resource in (JOBS, DEPLOYMENTS, STATEFUL_SETS)

    def mutate(self, review: Review, lookup: Lookup) -> None:
        obj, queue = review.obj, queue_name(review.obj)
        if not queue or not isinstance(obj.get("spec"), dict):
            return
        if review.kind.resource == PODS:
            _gate(obj, review.namespace, lookup)
        elif review.kind.resource == JOBS:
            started = review.old is not None and not (review.old["spec"].get("suspend") or False)
            if not started and not obj["spec"].get("suspend") and not _is_admitted(obj, review.namespace, lookup):
                obj["spec"]["suspend"] = True
        else:
            metadata = obj["spec"].setdefault("template", {}).setdefault("metadata", {})
            metadata["labels"] = {**(metadata.get("labels") or {}), QUEUE_LABEL: queue}

    def validate(self, review: Review, lookup: Lookup) -> None:
        if review.kind.resource != JOBS or review.old is None or review.old["spec"].get("suspend"):
            return
        if queue_name(review.obj) != queue_name(review.old) and not _is_over(review.old):
            why = f"cannot be changed while the Job runs: suspend it first, or leave {QUEUE_LABEL} as it is"
            raise invalid("batch", "Job", review.name, [forbidden(f"metadata.labels[{QUEUE_LABEL}]", why)])


def _gate(pod: Obj, namespace: str, lookup: Lookup) -> None:
    owner = controller_of(pod)
    if owner is not None and owner["kind"] == "Job":
        job = lookup.find(JOBS, namespace, owner["name"])
        if job is not None and queue_name(job):
            return
    pod["metadata"]["labels"][MANAGED_LABEL] = "true"
    gates = pod["spec"].get("schedulingGates") or []
    if all(gate.get("name") != GATE for gate in gates):
        pod["spec"]["schedulingGates"] = [*gates, {"name": GATE}]


def _is_admitted(job: Obj, namespace: str, lookup: Lookup) -> bool:
    uid = job["metadata"].get("uid")
    if not uid:
        return False
    return any(
        conditions.is_true(workload, "Admitted") and not conditions.is_true(workload, "Evicted")
        for workload in lookup.all(WORKLOADS, namespace)
        if owned_by(workload, uid)
    )


def _is_over(job: Obj) -> bool:
    return conditions.is_true(job, "Complete") or conditions.is_true(job, "Failed")


class QueueRules:
    """What Kueue's webhooks and CEL rules refuse of ClusterQueues, Cohorts and LocalQueues."""

    name = "QueueRules"

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        mine = kind.resource.group == _GROUP and kind.resource.kind in (*_QUOTAS, "LocalQueue")
        return mine and operation in ("CREATE", "UPDATE") and not subresource

    def mutate(self, review: Review, lookup: Lookup) -> None:
        """Nothing to change."""

    def validate(self, review: Review, lookup: Lookup) -> None:
        spec = review.obj.get("spec") or {}
        if review.kind.resource.kind in _QUOTAS:
            # v1beta1 says cohort, v1beta2 cohortName, a Cohort parentName.
            parent = spec.get("cohortName") or spec.get("cohort") or spec.get("parentName")
            causes = [*_groups(spec.get("resourceGroups") or (), bool(parent)), *_rest(spec)]
        else:
            causes = _fixed(spec, review.old)
        if causes:
            raise invalid(_GROUP, review.kind.resource.kind, review.name, causes)


def _groups(groups: Iterable[Obj], in_cohort: bool) -> list[Cause]:
    causes: list[Cause] = []
    resources: set[str] = set()
    flavors: set[str] = set()
    for number, group in enumerate(groups):
        path = f"spec.resourceGroups[{number}]"
        covered = group["coveredResources"]
        for index, name in enumerate(covered):
            if name in resources:
                causes.append(
                    Cause("FieldValueDuplicate", f'Duplicate value: "{name}"', f"{path}.coveredResources[{index}]")
                )
            resources.add(name)
        for index, flavor in enumerate(group["flavors"]):
            where = f"{path}.flavors[{index}]"
            if flavor["name"] in flavors:
                causes.append(duplicate(f"{where}.name", flavor["name"]))
            flavors.add(flavor["name"])
            if [quota["name"] for quota in flavor["resources"]] != covered:
                why = "must match the name in coveredResources, in the same order"
                causes.append(wrong(f"{where}.resources", [quota["name"] for quota in flavor["resources"]], why))
            for at, quota in enumerate(flavor["resources"]):
                causes += _quota(quota, f"{where}.resources[{at}]", in_cohort)
    return causes


def _quota(quota: Obj, path: str, in_cohort: bool) -> list[Cause]:
    causes: list[Cause] = []
    given = [name for name in ("nominalQuota", "borrowingLimit", "lendingLimit") if quota.get(name) is not None]
    for name in given:
        if parse(quota[name]).nanos < 0:
            causes.append(wrong(f"{path}.{name}", quota[name], "must be greater than or equal to 0"))
        elif name != "nominalQuota" and not in_cohort:
            causes.append(wrong(f"{path}.{name}", quota[name], "must be nil when cohort is empty"))
    lending = quota.get("lendingLimit")
    if lending is not None and parse(lending) > parse(quota["nominalQuota"]):
        causes.append(wrong(f"{path}.lendingLimit", lending, "must be less than or equal to the nominalQuota"))
    return causes


def _rest(spec: Obj) -> list[Cause]:
    causes: list[Cause] = []
    weight = (spec.get("fairSharing") or {}).get("weight")
    if weight is not None and parse(weight).nanos < 0:
        causes.append(wrong("spec.fairSharing.weight", weight, "must be greater than or equal to 0"))
    preemption = spec.get("preemption") or {}
    borrowing = (preemption.get("borrowWithinCohort") or {}).get("policy") or "Never"
    if preemption.get("reclaimWithinCohort") == "Never" and borrowing != "Never":
        causes.append(
            wrong("spec.preemption", "Never", "reclaimWithinCohort=Never and borrowWithinCohort.Policy!=Never")
        )
    fungibility = spec.get("flavorFungibility") or {}
    both = fungibility.get("whenCanBorrow") == fungibility.get("whenCanPreempt") == "TryNextFlavor"
    if fungibility.get("preference") and not both:
        why = "preference can only be set when both whenCanBorrow and whenCanPreempt are TryNextFlavor"
        causes.append(wrong("spec.flavorFungibility", fungibility["preference"], why))
    try:
        LabelSelector.from_object(spec.get("namespaceSelector"))
    except StatusError as error:
        causes.append(wrong("spec.namespaceSelector", "", error.message))
    return causes


def _fixed(spec: Obj, old: Obj | None) -> list[Cause]:
    name = spec.get("clusterQueue")
    if old is not None and name != (old.get("spec") or {}).get("clusterQueue"):
        return [wrong("spec.clusterQueue", name, "field is immutable")]
    return []
