"""Bootstrap tokens: `ID.SECRET`, kept as Secrets of kube-system, by which a new machine asks for its first certificate.

The form, the Secret's fields and the groups are Kubernetes' (bootstrap tokens, KEP-1731 and its documentation).
"""

import base64
import hmac
import re
from typing import Final

from corral.apiserver.auth.api import User
from corral.apiserver.auth.lookup import Lookup, core_key, decode
from corral.base.clock import Clock, parse_rfc3339
from corral.kinds.bootstraptokens import BOOTSTRAPPERS, NAMESPACE, SECRET_TYPE, secret_name
from corral.kinds.status import unauthorized
from corral.kinds.types import Obj

_FORM: Final = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_GROUP: Final = re.compile(rf"{BOOTSTRAPPERS}:[a-z0-9:-]{{0,255}}[a-z0-9]")


def is_one(token: str) -> bool:
    """Whether `token` has the form of a bootstrap token."""
    return _FORM.fullmatch(token) is not None


def verify(token: str, lookup: Lookup, clock: Clock) -> User:
    """Whom the token stands for.

    Raises:
        StatusError: 401, it is unknown, over, or not for this; whoever knows its secret is told that it is over.
    """
    found = _FORM.fullmatch(token)
    entry = lookup.get(core_key("secrets", NAMESPACE, secret_name(found[1]))) if found else None
    if found is None or entry is None:
        raise unauthorized()
    secret = decode(entry)
    data = {name: _text(value) for name, value in (secret.get("data") or {}).items()}
    right = hmac.compare_digest(data.get("token-secret", "").encode(), found[2].encode())
    if not right or not _is_usable(secret, data) or data.get("token-id") != found[1]:
        raise unauthorized()
    if _is_over(data, clock):
        raise unauthorized(f"Unauthorized: the token {found[1]} ended at {data['expiration']}")
    extra = [group for group in data.get("auth-extra-groups", "").split(",") if _GROUP.fullmatch(group)]
    return User(f"system:bootstrap:{found[1]}", (BOOTSTRAPPERS, *extra, "system:authenticated"))


def _is_usable(secret: Obj, data: dict[str, str]) -> bool:
    if secret.get("type") != SECRET_TYPE or secret["metadata"].get("deletionTimestamp"):
        return False
    return data.get("usage-bootstrap-authentication") == "true"


def _is_over(data: dict[str, str], clock: Clock) -> bool:
    try:
        return "expiration" in data and parse_rfc3339(data["expiration"]) <= clock.now()
    except ValueError:
        return True


def _text(value: str) -> str:
    return base64.b64decode(value).decode(errors="replace")
