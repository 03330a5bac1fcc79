"""What the API server would make of the objects of a plan, without making them.

Each goes to the server as a dry run by whoever asks, so that defaults, permissions and refusals are those of a real
create, or of a replacement if the object is there. What pods lean on may be among the objects and not be there yet:

- A Namespace: what belongs into it is tried in another one, under a generated name, and moved in afterwards.
- A ServiceAccount: the pods are tried with the namespace's own account.
- A PriorityClass: the pods are tried without it, and given its value afterwards.
"""

from typing import Literal

import orjson

from corral.client.api import ApiRequest
from corral.client.client import Client, decode
from corral.kinds.resources import NAMESPACES, PODS, PRIORITY_CLASSES, SERVICE_ACCOUNTS
from corral.kinds.status import StatusError, bad_request
from corral.kinds.types import Key, Obj, Resource
from corral.scheduler import expand
from corral.scheduler.standing import NOTHING, Standing, standing

COMPANIONS = {
    (resource.api_version, resource.kind): resource for resource in (NAMESPACES, SERVICE_ACCOUNTS, PRIORITY_CLASSES)
}
"""By apiVersion and kind, what pods may lean on."""


class DryRun:
    """The objects of one plan.

    Args:
        user: acts as whoever asks.
        system: may read everything and create every pod, as the controllers of workloads together may.
        namespace: of objects that name none; it exists.
    """

    def __init__(self, user: Client, system: Client, namespace: str) -> None:
        self._user = user
        self._system = system
        self._namespace = namespace
        self._namespaces: set[str] = set()
        self._accounts: set[Key] = set()
        self._classes: dict[str, Obj] = {}

    async def companion(self, obj: Obj) -> bool:
        """Whether `obj` is one of COMPANIONS; if it is not there, what leans on it is tried without it from now on.

        Raises:
            StatusError: it would be refused.
        """
        resource = COMPANIONS.get(_kind(obj))
        if resource is None:
            return False
        place = self.place(obj) if resource.namespaced else ""
        name = str((obj.get("metadata") or {}).get("name") or "")
        try:
            await self._user.get(resource, name, place)
        except StatusError as error:
            if error.code != 404:
                raise
            made = await self._post(self._user, resource, place, obj)
            if resource == NAMESPACES:
                self._namespaces.add(name)
            elif resource == SERVICE_ACCOUNTS:
                self._accounts.add(Key(place, name))
            else:
                self._classes[name] = made
        return True

    async def group(self, obj: Obj) -> Obj | None:
        """The PodGroup or claim as it would be; None if `obj` is neither.

        Raises:
            StatusError: it would be refused.
        """
        resource = expand.GROUPS.get(_kind(obj))
        if resource is None:
            return None
        place = self.place(obj)
        try:
            return await self._post(self._user, resource, place, obj)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
        # What is planned is what the file says, as applying it would have it.
        return {**obj, "metadata": {**obj["metadata"], "namespace": place}}

    async def workload(self, obj: Obj) -> tuple[Obj, Obj, Standing]:
        """The workload and its model pod, as the server would take them, and what is there of it already.

        Raises:
            StatusError: it is no workload, or it or its pods would be refused.
        """
        resource = expand.WORKLOADS.get(_kind(obj))
        if resource is None:
            known = ", ".join(sorted({kind for _, kind in expand.WORKLOADS}))
            raise bad_request(f"cannot plan {obj.get('apiVersion')} {obj.get('kind')}: it has no pods; {known} have")
        place = self.place(obj)
        if resource == PODS:
            bare = self._without_companions(obj, place)
            pod, there = await self._written(resource, place, bare)
            return pod, self._with_class(pod, obj), there
        workload, there = await self._written(resource, place, obj)
        model = expand.model(workload)
        try:
            pod = await self._post(self._system, PODS, place, self._without_companions(model, place))
        except StatusError as error:
            error.message = f"its pods would be refused: {error.message}"
            raise
        return workload, self._with_class(pod, model), there

    def place(self, obj: Obj) -> str:
        """The namespace that an object is for."""
        metadata = obj.get("metadata")
        return str((metadata.get("namespace") if isinstance(metadata, dict) else None) or self._namespace)

    async def _written(self, resource: Resource, place: str, obj: Obj) -> tuple[Obj, Standing]:
        metadata = obj.get("metadata")
        if isinstance(metadata, dict):
            # Who got the object from a cell may have left it in; it is no obstacle to applying it either.
            obj = {**obj, "metadata": {field: metadata[field] for field in metadata if field != "resourceVersion"}}
        try:
            return await self._post(self._user, resource, place, obj), NOTHING
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
        name = obj["metadata"]["name"]
        before = await self._user.get(resource, name, place)
        after = await _try(self._user, "PUT", resource.path(place, name), obj)
        return after, await standing(self._system, resource, before, after)

    async def _post(self, client: Client, resource: Resource, place: str, obj: Obj) -> Obj:
        metadata = obj.get("metadata")
        if place not in self._namespaces or not isinstance(metadata, dict):
            return await _try(client, "POST", resource.path(place), obj)
        name = metadata.get("name")
        moved = {field: metadata[field] for field in metadata if field not in ("name", "namespace")}
        moved |= {"namespace": self._namespace, **({"generateName": f"{name}-"} if name else {})}
        made = await _try(client, "POST", resource.path(self._namespace), {**obj, "metadata": moved})
        made["metadata"] |= {"namespace": place, **({"name": name} if name else {})}
        return made

    def _without_companions(self, pod: Obj, place: str) -> Obj:
        spec = pod.get("spec")
        if not isinstance(spec, dict):
            return pod
        dropped = set()
        if Key(place, str(spec.get("serviceAccountName"))) in self._accounts:
            dropped |= {"serviceAccountName", "serviceAccount"}
        if spec.get("priorityClassName") in self._classes:
            dropped |= {"priorityClassName", "priority"}
        return {**pod, "spec": {field: spec[field] for field in spec if field not in dropped}} if dropped else pod

    def _with_class(self, pod: Obj, asked: Obj) -> Obj:
        found = self._classes.get((asked.get("spec") or {}).get("priorityClassName") or "")
        if found is None:
            return pod
        policy = found.get("preemptionPolicy") or "PreemptLowerPriority"
        spec = {**pod["spec"], "priority": found.get("value") or 0, "preemptionPolicy": policy}
        return {**pod, "spec": spec}


def _kind(obj: Obj) -> tuple[str, str]:
    return str(obj.get("apiVersion")), str(obj.get("kind"))


async def _try(client: Client, method: Literal["POST", "PUT"], path: str, obj: Obj) -> Obj:
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    return decode(await client.transport.call(ApiRequest(method, path, query, orjson.dumps(obj))))
