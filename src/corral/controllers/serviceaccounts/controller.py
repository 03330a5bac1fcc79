"""Two small controllers that keep one object in every namespace."""

from collections.abc import Iterable

from corral.client.informer import Informer
from corral.kinds.resources import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource
from corral.machinery.api import Done, Result, Tools
from corral.machinery.refusals import namespace_ends

DEFAULT = "default"
ROOT_CA = "kube-root-ca.crt"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class _PerNamespace:
    """Keys are namespaces; events on the object that is kept concern its namespace."""

    _kept: Resource
    _kept_name: str
    _tools: Tools
    _namespaces: Informer
    _objects: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._namespaces = tools.caches.get(NAMESPACES)
        self._objects = tools.caches.get(self._kept)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """The namespace."""
        metadata = obj["metadata"]
        if resource == NAMESPACES:
            return [Key("", metadata["name"])]
        return [Key("", metadata["namespace"])] if metadata["name"] == self._kept_name else []

    def _is_open(self, key: Key) -> bool:
        namespace = self._namespaces.get(key)
        return namespace is not None and not namespace["metadata"].get("deletionTimestamp")

    async def _create(self, obj: Obj) -> None:
        try:
            await self._tools.client.create(self._kept, obj)
        except StatusError as error:
            # Taken: the event of it is on its way.
            if error.reason != "AlreadyExists" and not namespace_ends(error):
                raise


class ServiceAccountController(_PerNamespace):
    """Keeps the service account `default` in each namespace."""

    name = "service-account-controller"
    reads = (NAMESPACES, SERVICE_ACCOUNTS)
    writes = ("serviceaccounts",)
    _kept = SERVICE_ACCOUNTS
    _kept_name = DEFAULT

    async def reconcile(self, key: Key) -> Result:
        """Create it if it is missing."""
        if self._is_open(key) and self._objects.get(Key(key.name, DEFAULT)) is None:
            metadata = {"name": DEFAULT, "namespace": key.name}
            await self._create({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": metadata})
        return Done()


class RootCaController(_PerNamespace):
    """Keeps the ConfigMap `kube-root-ca.crt` in each namespace, so that pods can verify the API server.

    Args:
        ca_pem: the certificate authority of the API server's certificate.
    """

    name = "root-ca-cert-publisher"
    reads = (NAMESPACES, CONFIG_MAPS)
    writes = ("configmaps",)
    _kept = CONFIG_MAPS
    _kept_name = ROOT_CA

    def __init__(self, ca_pem: str) -> None:
        self._data = {"ca.crt": ca_pem}

    async def reconcile(self, key: Key) -> Result:
        """Create it, or put its data right."""
        if not self._is_open(key):
            return Done()
        present = self._objects.get(Key(key.name, ROOT_CA))
        if present is None:
            metadata = {
                "name": ROOT_CA,
                "namespace": key.name,
                "annotations": {"kubernetes.io/description": _DESCRIPTION},
            }
            await self._create({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": self._data})
        elif present.get("data") != self._data:
            await self._tools.client.update(CONFIG_MAPS, {**present, "data": self._data})
        return Done()
