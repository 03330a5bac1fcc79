"""Storage: claims that name no class get the default one, and claims and volumes are held from their beginning."""

from corral.apiserver.admission.api import Lookup, Operation, Passive, Review
from corral.kinds.kind import Kind
from corral.kinds.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from corral.kinds.storage import CLAIM_PROTECTION, VOLUME_PROTECTION, class_of, default_class

_FINALIZERS = {PERSISTENT_VOLUME_CLAIMS: CLAIM_PROTECTION, PERSISTENT_VOLUMES: VOLUME_PROTECTION}


class DefaultStorageClass(Passive):
    """As kube-apiserver's plugin of that name."""

    name = "DefaultStorageClass"

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        return kind.resource == PERSISTENT_VOLUME_CLAIMS and operation == "CREATE" and not subresource

    def mutate(self, review: Review, lookup: Lookup) -> None:
        spec = review.obj.get("spec")
        if not isinstance(spec, dict) or class_of(review.obj) is not None:
            return
        name = default_class(lookup.all(STORAGE_CLASSES))
        if name:
            spec["storageClassName"] = name


class StorageObjectInUseProtection(Passive):
    """As kube-apiserver's plugin of that name: there is no moment in which a claim or volume is not held."""

    name = "StorageObjectInUseProtection"

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        return kind.resource in _FINALIZERS and operation == "CREATE" and not subresource

    def mutate(self, review: Review, lookup: Lookup) -> None:
        finalizer = _FINALIZERS[review.kind.resource]
        metadata = review.obj["metadata"]
        present = metadata.get("finalizers") or []
        if finalizer not in present:
            metadata["finalizers"] = [*present, finalizer]
