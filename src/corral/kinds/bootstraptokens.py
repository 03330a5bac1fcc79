"""Bootstrap tokens as Secrets. Pure."""

from datetime import datetime
from typing import Final

from corral.base.clock import rfc3339
from corral.kinds.types import Obj

NAMESPACE: Final = "kube-system"
SECRET_TYPE: Final = "bootstrap.kubernetes.io/token"
BOOTSTRAPPERS: Final = "system:bootstrappers"
_PREFIX: Final = "bootstrap-token-"


def secret_name(token_id: str) -> str:
    """The name of the Secret that holds a token."""
    return _PREFIX + token_id


def token_id(secret: Obj) -> str:
    """The id of the token that a Secret holds."""
    name: str = secret["metadata"]["name"]
    return name.removeprefix(_PREFIX)


def token_secret(ident: str, secret: str, description: str, expires: datetime | None) -> Obj:
    """The Secret of a token by which machines may join."""
    data = {
        "token-id": ident,
        "token-secret": secret,
        "description": description,
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
    }
    if expires is not None:
        data["expiration"] = rfc3339(expires)
    return {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {"name": secret_name(ident), "namespace": NAMESPACE},
        "type": SECRET_TYPE,
        "stringData": data,
    }
