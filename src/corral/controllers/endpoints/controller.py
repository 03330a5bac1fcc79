"""Keeps what a Service's pods are, in the new form and in the old one; each has a user and a controller of its own."""

from collections.abc import Iterable, Sequence

from corral.client.informer import Informer
from corral.controllers.endpoints import legacy
from corral.controllers.endpoints.backends import chooses, has_selector
from corral.controllers.endpoints.slices import MANAGER, MANAGER_LABEL, SERVICE_LABEL, plan, zones_of
from corral.controllers.pods.pods import is_deleting
from corral.kinds.resources import ENDPOINT_SLICES, ENDPOINTS, NODES, PODS, SERVICES
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Result, Tools
from corral.machinery.refusals import namespace_ends

_NAMESPACE = "namespace"
_SERVICE = "service"


class _Services:
    """The Services and their pods."""

    def __init__(self, tools: Tools) -> None:
        self._services: Informer = tools.caches.get(SERVICES)
        self._pods: Informer = tools.caches.get(PODS)
        for informer in (self._services, self._pods):
            informer.add_index(_NAMESPACE, lambda obj: [obj["metadata"]["namespace"]])

    def concerned(self, pod: Obj) -> list[Key]:
        """The Services that choose the pod."""
        near = self._services.index(_NAMESPACE, pod["metadata"]["namespace"])
        return [key_of(service) for service in near if chooses(service, pod)]

    def get(self, key: Key) -> Obj | None:
        """The Service, if it is there to stay and chooses pods."""
        service = self._services.get(key)
        return service if service is not None and has_selector(service) and not is_deleting(service) else None

    def pods_of(self, service: Obj) -> Sequence[Obj]:
        """The pods that it chooses."""
        near = self._pods.index(_NAMESPACE, service["metadata"]["namespace"])
        return [pod for pod in near if chooses(service, pod)]


class EndpointSliceController:
    """Keeps each Service's EndpointSlices."""

    name = "endpointslice-controller"
    reads = (SERVICES, PODS, NODES, ENDPOINT_SLICES)
    writes = ("endpointslices",)

    _tools: Tools
    _services: _Services
    _slices: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._services = _Services(tools)
        self._slices = tools.caches.get(ENDPOINT_SLICES)
        self._slices.add_index(_SERVICE, lambda one: [str(_key_of_slice(one))])

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """The Service; the Services of a pod; the Service of a slice. Machines seldom change zones: nobody asks."""
        if resource == SERVICES:
            return [key_of(obj)]
        if resource == PODS:
            return self._services.concerned(obj)
        return [_key_of_slice(obj)] if resource == ENDPOINT_SLICES and _is_ours(obj) else []

    async def reconcile(self, key: Key) -> Result:
        """Write the slices that differ."""
        service = self._services.get(key)
        if service is None:
            return Done()
        slices = [one for one in self._slices.index(_SERVICE, str(key)) if _is_ours(one)]
        zones = zones_of(list(self._tools.caches.get(NODES).items()))
        step = plan(service, self._services.pods_of(service), zones, slices)
        client = self._tools.client
        try:
            for made in step.create:
                await client.create(ENDPOINT_SLICES, made)
        except StatusError as error:
            if not namespace_ends(error):
                raise
        for changed in step.update:
            await client.update(ENDPOINT_SLICES, changed)
        for old in step.delete:
            metadata = old["metadata"]
            await client.delete(ENDPOINT_SLICES, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        return Done()


class EndpointsController:
    """Keeps each Service's Endpoints."""

    name = "endpoint-controller"
    reads = (SERVICES, PODS, ENDPOINTS)
    writes = ("endpoints",)

    _tools: Tools
    _services: _Services
    _endpoints: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._services = _Services(tools)
        self._endpoints = tools.caches.get(ENDPOINTS)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """The Service, which its Endpoints are named after; the Services of a pod."""
        return self._services.concerned(obj) if resource == PODS else [key_of(obj)]

    async def reconcile(self, key: Key) -> Result:
        """Write the Endpoints if they differ."""
        service = self._services.get(key)
        if service is None:
            return Done()
        wanted = legacy.endpoints(service, self._services.pods_of(service))
        present = self._endpoints.get(key)
        client = self._tools.client
        if present is None:
            try:
                await client.create(ENDPOINTS, wanted)
            except StatusError as error:
                if not namespace_ends(error):
                    raise
        elif not legacy.same(present, wanted):
            wanted["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"]
            await client.update(ENDPOINTS, wanted)
        return Done()


def _is_ours(one: Obj) -> bool:
    return bool((one["metadata"].get("labels") or {}).get(MANAGER_LABEL) == MANAGER)


def _key_of_slice(one: Obj) -> Key:
    metadata = one["metadata"]
    return Key(metadata["namespace"], (metadata.get("labels") or {}).get(SERVICE_LABEL, ""))
