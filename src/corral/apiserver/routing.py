"""URL paths to resources, split by hand: this runs once per request."""

from urllib.parse import unquote

import msgspec

# What may follow `/namespaces/{name}/` without being a collection in that namespace.
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})

VERBS_BY_METHOD = {
    "POST": ("create", ""),
    "PUT": ("", "update"),
    "PATCH": ("", "patch"),
    "DELETE": ("deletecollection", "delete"),
}


class Target(msgspec.Struct, frozen=True, gc=False):
    """A resource path taken apart; `rest` is what follows a subresource (for `proxy`), with its leading slash."""

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""


def split(path: str) -> Target | None:
    """The resource that `path` names; None if it is not the path of a resource (discovery, health and so on)."""
    parts = path.rstrip("/").split("/")
    if "%" in path:
        parts = [unquote(part) for part in parts]
    if len(parts) > 3 and parts[1] == "api":
        group, version, tail = "", parts[2], parts[3:]
    elif len(parts) > 4 and parts[1] == "apis":
        group, version, tail = parts[2], parts[3], parts[4:]
    else:
        return None
    if not all(tail[:3]):
        return None
    if tail[0] == "namespaces" and len(tail) > 2 and (len(tail) > 3 or tail[2] not in _NAMESPACE_SUBRESOURCES):
        namespace, tail = tail[1], tail[2:]
    else:
        namespace = ""
    name = tail[1] if len(tail) > 1 else ""
    subresource = tail[2] if len(tail) > 2 else ""
    rest = "/" + "/".join(tail[3:]) if len(tail) > 3 else ""
    return Target(group, version, tail[0], namespace, name, subresource, rest)


def verb_of(method: str, name: str, watch: bool) -> str:
    """The verb, in authorization's words; empty if the method has none on such a path."""
    if method in ("GET", "HEAD"):
        if watch:
            return "watch"
        return "get" if name else "list"
    verbs = VERBS_BY_METHOD.get(method)
    if verbs is None:
        return ""
    return verbs[1] if name else verbs[0]
