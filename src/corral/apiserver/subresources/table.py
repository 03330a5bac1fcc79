"""Which function answers which method of which subresource."""

from collections.abc import Awaitable, Callable, Mapping

from corral.apiserver.auth.tokens import TokenIssuer
from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.subresources import scale, status
from corral.apiserver.subresources.binding import bind
from corral.apiserver.subresources.eviction import evict
from corral.apiserver.subresources.token import token_handler

Handler = Callable[[Core, Context], Awaitable[Reply]]

STREAMS = frozenset({"log", "exec", "attach", "portforward", "proxy"})
"""Subresources that are answered by agents; they need the connection itself and are HTTP only."""
CONNECTS = frozenset({"exec", "attach", "portforward"})
"""Streams that act on a pod, whatever the method: they take the permission to `create`."""

_PART: Mapping[str, Handler] = {"get": status.read, "update": status.replace, "patch": status.change}


def handlers(tokens: TokenIssuer | None) -> dict[str, Mapping[str, Handler]]:
    """By subresource, then by verb."""
    return {
        "status": _PART,
        "approval": _PART,
        "ephemeralcontainers": _PART,
        "resize": _PART,
        "finalize": {"update": status.replace},
        "scale": {"get": scale.read, "update": scale.replace, "patch": scale.change},
        "binding": {"create": bind},
        "eviction": {"create": evict},
        "token": {"create": token_handler(tokens)},
    }


VERBS: Mapping[str, tuple[str, ...]] = {
    "status": ("get", "patch", "update"),
    "approval": ("get", "patch", "update"),
    "ephemeralcontainers": ("get", "patch", "update"),
    "resize": ("get", "patch", "update"),
    "finalize": ("update",),
    "scale": ("get", "patch", "update"),
    "binding": ("create",),
    "eviction": ("create",),
    "token": ("create",),
    "log": ("get",),
    "exec": ("create", "get"),
    "attach": ("create", "get"),
    "portforward": ("create", "get"),
    "proxy": ("create", "delete", "get", "patch", "update"),
}
"""For discovery."""

OTHER_KINDS: Mapping[str, tuple[str, str, str]] = {
    "scale": ("autoscaling", "v1", "Scale"),
    "eviction": ("policy", "v1", "Eviction"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
    "binding": ("", "v1", "Binding"),
    "exec": ("", "v1", "PodExecOptions"),
    "attach": ("", "v1", "PodAttachOptions"),
    "portforward": ("", "v1", "PodPortForwardOptions"),
    "proxy": ("", "v1", "PodProxyOptions"),
}
"""Group, version and kind of subresources that are not of their parent's kind."""
