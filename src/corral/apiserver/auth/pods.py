"""Which pods run on which machine, and what they refer to: what the Node authorizer decides by."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from corral.apiserver.auth.lookup import PODS_PREFIX, decode
from corral.apiserver.auth.mirror import Mirror
from corral.kinds.types import Obj
from corral.store.protocol import Entry, Store

log = logging.getLogger(__name__)

SOURCE_DRIVER = "source.corral.dev"
# The in-tree volume drivers with credentials: each names its secret in `secretRef`.
_CREDENTIALLED = frozenset({"azureFile", "cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"})

Reference = tuple[str, str, str]
"""Plural, namespace, name."""


@dataclass(frozen=True, slots=True)
class PodOnNode:
    """A bound pod; what an agent may read for its sake."""

    node: str
    references: frozenset[Reference]


class PodIndex:
    """Kept fresh by the store's watch; `refresh()` makes it show every acknowledged write."""

    def __init__(self, store: Store) -> None:
        self._mirror = Mirror(store, PODS_PREFIX, self._apply)
        self._pods: dict[str, PodOnNode] = {}
        self._references: dict[str, Counter[Reference]] = {}

    async def start(self) -> None:
        """Read the pods and follow them."""
        await self._mirror.start()

    async def stop(self) -> None:
        """End the following."""
        await self._mirror.stop()

    def refresh(self) -> None:
        """Show every acknowledged write."""
        self._mirror.refresh()

    def node_of(self, namespace: str, name: str) -> str:
        """The machine that the pod is bound to; empty if it is not bound or not there."""
        pod = self._pods.get(f"{PODS_PREFIX}{namespace}/{name}")
        return pod.node if pod is not None else ""

    def refers(self, node: str, reference: Reference) -> bool:
        """Whether a pod on `node` refers to the object."""
        return reference in self._references.get(node, ())

    def _apply(self, key: str, entry: Entry | None) -> None:
        old = self._pods.pop(key, None)
        if old is not None:
            self._forget(old)
        try:
            pod = read(decode(entry)) if entry is not None else None
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # Validation keeps such objects out; one that came in all the same must not end the agents' access.
            log.warning("%s cannot be read and gives its machine nothing: %r", key, error)
            return
        if pod is not None:
            self._pods[key] = pod
            self._references.setdefault(pod.node, Counter()).update(pod.references)

    def _forget(self, pod: PodOnNode) -> None:
        counts = self._references[pod.node]
        for reference in pod.references:
            counts[reference] -= 1
            if not counts[reference]:
                del counts[reference]
        if not counts:
            del self._references[pod.node]


def read(pod: Obj) -> PodOnNode | None:
    """What the index keeps of a pod; None while it is not bound."""
    spec = pod.get("spec") or {}
    if not spec.get("nodeName"):
        return None
    namespace = pod["metadata"].get("namespace", "")
    pairs = {("serviceaccounts", spec.get("serviceAccountName") or "default")}
    pairs |= {("secrets", secret.get("name", "")) for secret in spec.get("imagePullSecrets") or ()}
    for container in _containers(spec):
        pairs.update(_environment(container))
    for volume in spec.get("volumes") or ():
        pairs.update(_volume(volume, pod["metadata"].get("name", "")))
    return PodOnNode(spec["nodeName"], frozenset((plural, namespace, name) for plural, name in pairs if name))


def _containers(spec: Obj) -> Iterator[Obj]:
    for field in ("containers", "initContainers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def _environment(container: Obj) -> Iterator[tuple[str, str]]:
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        yield "secrets", _name(source.get("secretKeyRef"))
        yield "configmaps", _name(source.get("configMapKeyRef"))
    for source in container.get("envFrom") or ():
        yield "secrets", _name(source.get("secretRef"))
        yield "configmaps", _name(source.get("configMapRef"))


def _volume(volume: Obj, pod_name: str) -> Iterator[tuple[str, str]]:
    yield "secrets", (volume.get("secret") or {}).get("secretName", "")
    yield "configmaps", _name(volume.get("configMap"))
    yield "persistentvolumeclaims", (volume.get("persistentVolumeClaim") or {}).get("claimName", "")
    if "ephemeral" in volume:
        yield "persistentvolumeclaims", f"{pod_name}-{volume.get('name', '')}"
    for source in (volume.get("projected") or {}).get("sources") or ():
        yield "secrets", _name(source.get("secret"))
        yield "configmaps", _name(source.get("configMap"))
    csi = volume.get("csi") or {}
    yield "secrets", _name(csi.get("nodePublishSecretRef"))
    if csi.get("driver") == SOURCE_DRIVER:
        yield "sources", (csi.get("volumeAttributes") or {}).get("digest", "")
    for driver in _CREDENTIALLED & volume.keys():
        source = volume[driver] or {}
        yield "secrets", _name(source.get("secretRef")) or source.get("secretName", "")


def _name(reference: Any) -> str:
    name = reference.get("name") if isinstance(reference, dict) else ""
    return name or ""
