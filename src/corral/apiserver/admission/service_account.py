"""ServiceAccount: every pod runs as one, and finds its token where client libraries look for it."""

import hashlib
from functools import lru_cache

from corral.apiserver.admission.api import Lookup, Operation, Passive, Review
from corral.apiserver.admission.pods import containers, is_pod_create
from corral.kinds.kind import Kind
from corral.kinds.resources import SERVICE_ACCOUNTS
from corral.kinds.status import forbidden
from corral.kinds.types import Obj

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
# An hour and a few seconds, which tells tokens that kubelets asked for from those that people did.
TOKEN_SECONDS = 3607


class ServiceAccounts(Passive):
    """As kube-apiserver's plugin ServiceAccount."""

    name = "ServiceAccount"

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        return is_pod_create(kind, operation, subresource)

    def mutate(self, review: Review, lookup: Lookup) -> None:
        pod = review.obj
        spec = pod.get("spec")
        if not isinstance(spec, dict) or MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {}):
            return
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = lookup.find(SERVICE_ACCOUNTS, review.namespace, name)
        if account is None:
            why = f'error looking up service account {review.namespace}/{name}: serviceaccount "{name}" not found'
            raise forbidden("", "pods", review.name or pod["metadata"].get("generateName", ""), why)
        if _wants_token(spec, account):
            _mount_token(pod)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(secret) for secret in account["imagePullSecrets"]]


def _wants_token(spec: Obj, account: Obj) -> bool:
    for choice in (spec.get("automountServiceAccountToken"), account.get("automountServiceAccountToken")):
        if choice is not None:
            return bool(choice)
    return True


def _mount_token(pod: Obj) -> None:
    spec = pod["spec"]
    without = [
        container
        for container in containers(pod)
        if all(mount.get("mountPath") != MOUNT_PATH for mount in container.get("volumeMounts") or ())
    ]
    if not without:
        return
    metadata = pod["metadata"]
    volume = f"kube-api-access-{_suffix(metadata.get('name'), metadata.get('generateName'), metadata.get('uid'))}"
    for container in without:
        mounts = container.get("volumeMounts") or []
        container["volumeMounts"] = [*mounts, {"name": volume, "mountPath": MOUNT_PATH, "readOnly": True}]
    spec["volumes"] = [*(spec.get("volumes") or ()), _token_volume(volume)]


@lru_cache(512)
def _suffix(name: str | None, prefix: str | None, uid: str | None) -> str:
    # Derived from the pod rather than drawn, so that admitting the same pod twice gives the same pod.
    seed = f"{name}/{prefix}/{uid}"
    return hashlib.sha256(seed.encode()).hexdigest()[:5]


def _token_volume(name: str) -> Obj:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "name": name,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [namespace]}},
            ],
        },
    }
