"""Pods that wait in a queue: each behind a scheduling gate until its Workload is admitted.

A pod is a Workload by itself, or with the others of its group (`kueue.x-k8s.io/pod-group-name`), once as many are
there as the group is to have. Admitted pods get the flavors' node labels and tolerations as their gate goes; evicted
ones are deleted, and whoever made them (a ReplicaSet, a StatefulSet) makes new ones, that wait again.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence

from corral.batch import workloads
from corral.batch.jobs import OWNER_INDEX, owner_uids
from corral.batch.views import is_admitted, is_evicted, is_finished, is_reserving
from corral.client.informer import Informer
from corral.kinds import conditions
from corral.kinds.bundled.queues import GATE, GROUP_COUNT, GROUP_LABEL, is_gated, is_queued_pod, queue_name
from corral.kinds.podspec import is_terminal, phase
from corral.kinds.resources import (
    PODS,
    PRIORITY_CLASSES,
    RESOURCE_FLAVORS,
    WORKLOAD_PRIORITY_CLASSES,
    WORKLOADS,
)
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource
from corral.machinery.api import Done, Permanent, Result, Tools
from corral.machinery.status import write_status

_GROUP_INDEX = "pod group"
_MOVABLE = ("nodeSelector", "tolerations", "schedulingGates", "nodeName", "volumes", "affinity")


def group_of(pod: Obj) -> str:
    """What a pod is queued with: its group's name, or its own behind a slash."""
    return (pod["metadata"].get("labels") or {}).get(GROUP_LABEL) or f"/{pod['metadata']['name']}"


class QueuedPodController:
    """Keeps each queued pod, or group of pods, and its Workload in step. Keys are `group_of` a pod."""

    name = "queued-pod-controller"
    reads = (PODS, WORKLOADS, RESOURCE_FLAVORS, WORKLOAD_PRIORITY_CLASSES, PRIORITY_CLASSES)
    writes = ("pods", "workloads.kueue.x-k8s.io", "workloads.kueue.x-k8s.io/status")

    _tools: Tools
    _pods: Informer
    _workloads: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._pods = tools.caches.get(PODS)
        self._pods.add_index(_GROUP_INDEX, _group_keys)
        self._workloads = tools.caches.get(WORKLOADS)
        self._workloads.add_index(OWNER_INDEX, owner_uids)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A queued pod's group; a Workload's pods' group."""
        namespace = obj["metadata"].get("namespace", "")
        if resource == PODS:
            return [Key(namespace, group_of(obj))] if is_queued_pod(obj) else []
        if resource == WORKLOADS:
            owners = obj["metadata"].get("ownerReferences") or ()
            pods = (self._pods.get(Key(namespace, owner["name"])) for owner in owners if owner["kind"] == "Pod")
            return {Key(namespace, group_of(pod)) for pod in pods if pod is not None}
        return []

    async def reconcile(self, key: Key) -> Result:
        """One step of the pods."""
        pods = sorted(self._pods.index(_GROUP_INDEX, str(key)), key=lambda pod: pod["metadata"]["name"])
        if not pods:
            return Done()
        workload = self._workload(pods)
        live = [pod for pod in pods if not is_terminal(pod) and not pod["metadata"].get("deletionTimestamp")]
        if workload is None:
            return await self._enter(key, live)
        if is_finished(workload):
            return Done()
        if is_evicted(workload) and is_reserving(workload):
            return await self._stop(pods, live, workload)
        if end := _end(pods, workload):
            await self._status(workload, workloads.finished(workload, *end, self._tools.clock.now()))
        elif is_admitted(workload):
            await self._start(live, workload)
        return Done()

    def _workload(self, pods: Sequence[Obj]) -> Obj | None:
        for pod in pods:
            found = self._workloads.index(OWNER_INDEX, pod["metadata"]["uid"])
            if found:
                return found[0]
        return None

    async def _enter(self, key: Key, pods: Sequence[Obj]) -> Result:
        waiting = [pod for pod in pods if is_gated(pod)]
        if not waiting:
            return Done()
        first = waiting[0]
        total = (first["metadata"].get("annotations") or {}).get(GROUP_COUNT, "1")
        if not total.isdecimal():
            return Permanent(f"annotation {GROUP_COUNT} of pod {first['metadata']['name']} must be a number: {total!r}")
        if not key.name.startswith("/") and len(waiting) < int(total):
            return Done()
        try:
            priority = workloads.priority_of(
                first,
                first["spec"],
                lambda name: self._tools.caches.get(WORKLOAD_PRIORITY_CLASSES).get(Key("", name)),
                list(self._tools.caches.get(PRIORITY_CLASSES).items()),
            )
        except LookupError as error:
            self._tools.events.record(first, "Warning", "CreateWorkloadFailed", str(error))
            return Permanent(str(error))
        metadata = first["metadata"]
        alone = key.name.startswith("/")
        name = workloads.name_for("Pod", metadata["name"], metadata["uid"]) if alone else key.name
        made = workloads.new_workload(name, waiting, queue_name(first), pod_sets(waiting), priority)
        try:
            await self._tools.client.create(WORKLOADS, made)
        except StatusError as error:
            # A group's Workload of before is still on its way out with its pods.
            if error.reason != "AlreadyExists":
                raise
        return Done()

    async def _start(self, pods: Sequence[Obj], workload: Obj) -> None:
        flavors = {obj["metadata"]["name"]: obj for obj in self._tools.caches.get(RESOURCE_FLAVORS).items()}
        given = {entry["name"]: entry for entry in workload["status"]["admission"]["podSetAssignments"]}
        alone = len(given) == 1
        for pod in pods:
            assignment = next(iter(given.values())) if alone else given.get(role_of(pod))
            if not is_gated(pod) or assignment is None:
                continue
            spec = workloads.bind_template(pod["spec"], assignment, flavors)
            spec["schedulingGates"] = [gate for gate in spec["schedulingGates"] if gate["name"] != GATE]
            await self._tools.client.update(PODS, {**pod, "spec": spec})
            queue = workload["status"]["admission"]["clusterQueue"]
            self._tools.events.record(pod, "Normal", "Started", f"Admitted by clusterQueue {queue}")

    async def _stop(self, pods: Sequence[Obj], live: Sequence[Obj], workload: Obj) -> Result:
        cause = conditions.get(workload, "Evicted") or {}
        for pod in live:
            metadata = pod["metadata"]
            await self._tools.client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
            self._tools.events.record(pod, "Normal", "Stopped", cause.get("message") or "Evicted")
        if all(is_terminal(pod) for pod in pods):
            words = cause.get("message") or "Evicted"
            await self._status(workload, workloads.finished(workload, "Failed", words, self._tools.clock.now()))
        return Done()

    async def _status(self, workload: Obj, status: Obj) -> None:
        await write_status(self._tools.client, WORKLOADS, workload, status)


def role_of(pod: Obj) -> str:
    """The pod set that a pod of a group belongs to: pods that ask for the same are one."""
    spec = {name: value for name, value in pod["spec"].items() if name not in _MOVABLE}
    parts = {name: spec.get(name) for name in ("containers", "initContainers", "overhead", "resources", "priority")}
    for field in ("containers", "initContainers"):
        parts[field] = [
            {"name": one.get("name"), "image": one.get("image"), "resources": one.get("resources")}
            for one in parts[field] or ()
        ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]


def pod_sets(pods: Sequence[Obj]) -> list[Obj]:
    """The pod sets of pods that are queued together; a single kind of pods is called `main`."""
    roles: dict[str, list[Obj]] = {}
    for pod in pods:
        roles.setdefault(role_of(pod), []).append(pod)
    return [
        {
            "name": role if len(roles) > 1 else "main",
            "count": len(members),
            "template": _template(members[0]),
        }
        for role, members in roles.items()
    ]


def _template(pod: Obj) -> Obj:
    spec = {name: value for name, value in pod["spec"].items() if name != "schedulingGates"}
    return {"metadata": {"labels": pod["metadata"].get("labels") or {}}, "spec": spec}


def _group_keys(pod: Obj) -> list[str]:
    return [str(Key(pod["metadata"]["namespace"], group_of(pod)))] if is_queued_pod(pod) else []


def _end(pods: Sequence[Obj], workload: Obj) -> tuple[str, str] | None:
    """How the pods ended: the reason and message of their Workload's condition."""
    total = sum(pod_set.get("count", 1) for pod_set in workload["spec"]["podSets"])
    ended = [pod for pod in pods if is_terminal(pod)]
    if len(ended) < total:
        return None
    good = sum(phase(pod) == "Succeeded" for pod in ended)
    if good >= total:
        return "Succeeded", f"Pods succeeded: {good}/{total}."
    return "Failed", f"Pods succeeded: {good}/{total}. Pods failed: {len(ended) - good}."
