"""Acting as somebody else: the `Impersonate-*` headers, each of which takes the permission `impersonate`."""

from collections.abc import Iterable
from urllib.parse import unquote

from corral.apiserver.auth.api import Attributes, Authorizer, User
from corral.kinds.status import bad_request, forbidden

PREFIX = "impersonate-"
_EXTRA = "impersonate-extra-"
_AUTHENTICATED = "system:authenticated"


def impersonate(authorizer: Authorizer, user: User, headers: Iterable[tuple[str, str]]) -> User:
    """The user that the headers name, if `user` may act as them; `user` if they name nobody.

    Raises:
        StatusError: 400 without Impersonate-User; 403.
    """
    name, uid = "", ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}
    for header, value in headers:
        header = header.lower()
        if header == "impersonate-user":
            name = value
        elif header == "impersonate-group":
            groups.append(value)
        elif header == "impersonate-uid":
            uid = value
        elif header.startswith(_EXTRA):
            extra.setdefault(unquote(header.removeprefix(_EXTRA)), []).append(value)
    if not name:
        if groups or uid or extra:
            raise bad_request("requested impersonation without impersonating a user: send Impersonate-User")
        return user
    _require(authorizer, user, _user_attributes(name))
    for group in groups:
        _require(authorizer, user, Attributes("impersonate", resource="groups", name=group))
    if uid:
        _require(authorizer, user, Attributes("impersonate", "authentication.k8s.io", "uids", name=uid))
    for key, values in extra.items():
        for value in values:
            _require(
                authorizer, user, Attributes("impersonate", "authentication.k8s.io", "userextras", key, name=value)
            )
    if name.startswith("system:serviceaccount:") and not groups:
        namespace = name.split(":")[2]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    if name != "system:anonymous" and _AUTHENTICATED not in groups:
        groups.append(_AUTHENTICATED)
    return User(name, tuple(groups), uid, extra)


def _user_attributes(name: str) -> Attributes:
    parts = name.split(":")
    if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"]:
        return Attributes("impersonate", resource="serviceaccounts", namespace=parts[2], name=parts[3])
    return Attributes("impersonate", resource="users", name=name)


def _require(authorizer: Authorizer, user: User, attributes: Attributes) -> None:
    decision = authorizer.authorize(user, attributes)
    if not decision.allowed:
        raise forbidden(attributes.group, attributes.resource, attributes.name, decision.reason)
