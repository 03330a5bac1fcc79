"""`serviceaccounts/token`: a signed token for a service account."""

from collections.abc import Awaitable, Callable

from corral.apiserver import metadata as meta
from corral.apiserver.admission.api import Review
from corral.apiserver.answers import value_reply
from corral.apiserver.auth.tokens import TokenIssuer
from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.decoding import decode_object
from corral.base.clock import rfc3339
from corral.kinds.resources import PODS
from corral.kinds.status import Cause, bad_request, invalid, unavailable
from corral.kinds.types import Obj

_DEFAULT_SECONDS = 3600


def token_handler(tokens: TokenIssuer | None) -> Callable[[Core, Context], Awaitable[Reply]]:
    """The function behind POST .../token."""

    async def token(core: Core, ctx: Context) -> Reply:
        if tokens is None:
            raise unavailable("cannot issue a token: this server has no signing key")
        request = decode_object(ctx.call.body, ctx.call.content_type)
        metadata = meta.shape(request)
        meta.match_url(metadata, ctx)
        account = core.render(ctx.kind, core.entry(ctx.kind, ctx.namespace, ctx.name)).obj
        spec = request.get("spec") or {}
        audiences, seconds, bound = _checked(spec)
        _admit(core, ctx, request, bound)
        text, expires = tokens.issue(
            ctx.namespace, ctx.name, account["metadata"]["uid"], audiences=audiences, seconds=seconds, bound=bound
        )
        metadata.setdefault("creationTimestamp", core.timestamp())
        answer: Obj = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": metadata,
            "spec": {
                "audiences": audiences or list(tokens.audiences),
                "expirationSeconds": seconds,
                "boundObjectRef": bound,
            },
            "status": {"token": text, "expirationTimestamp": rfc3339(expires)},
        }
        return value_reply(answer, ctx.format, 201)

    return token


def _checked(spec: Obj) -> tuple[list[str], int, Obj | None]:
    if not isinstance(spec, dict):
        raise bad_request("spec: must be an object")
    audiences, seconds = spec.get("audiences") or [], spec.get("expirationSeconds")
    bound = spec.get("boundObjectRef") or None
    if not isinstance(audiences, list) or not all(isinstance(audience, str) for audience in audiences):
        raise bad_request("spec.audiences: must be an array of strings")
    if seconds is None:
        seconds = _DEFAULT_SECONDS
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        why = f"Invalid value: {seconds!r}: must be a whole number of seconds"
        raise invalid(
            "authentication.k8s.io", "TokenRequest", "", [Cause("FieldValueInvalid", why, "spec.expirationSeconds")]
        )
    if bound is not None and not isinstance(bound, dict):
        raise bad_request("spec.boundObjectRef: must be an object")
    return audiences, seconds, bound


def _admit(core: Core, ctx: Context, request: Obj, bound: Obj | None) -> None:
    pod = None
    if bound is not None and bound.get("kind") == PODS.kind:
        pod = core.find(PODS, ctx.namespace, str(bound.get("name", "")))
    core.admission.validate(Review("CREATE", ctx.kind, ctx.namespace, ctx.name, "token", request, pod, ctx.user), core)
