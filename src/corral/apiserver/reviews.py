"""Questions asked by POST: who am I, what may I do, whose token is this. Nothing of it is stored."""

from collections.abc import Awaitable, Callable
from typing import Any

from corral.apiserver import metadata as meta
from corral.apiserver.answers import value_reply
from corral.apiserver.auth.api import Attributes, Authorizer, User
from corral.apiserver.auth.tokens import TokenIssuer
from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.decoding import decode_object, expect_kind
from corral.kinds.status import StatusError, bad_request
from corral.kinds.types import Obj

Handler = Callable[[Core, Context], Awaitable[Reply]]

_AUTHORIZATION = "authorization.k8s.io"
_AUTHENTICATION = "authentication.k8s.io"


class Reviews:
    """The review kinds of one server."""

    def __init__(self, authorizer: Authorizer, tokens: TokenIssuer | None) -> None:
        self._authorizer = authorizer
        self._tokens = tokens

    def handlers(self) -> dict[tuple[str, str], Handler]:
        """By group and plural."""
        return {
            (_AUTHORIZATION, "selfsubjectaccessreviews"): self._answering(self._own_access),
            (_AUTHORIZATION, "subjectaccessreviews"): self._answering(self._access),
            (_AUTHORIZATION, "localsubjectaccessreviews"): self._answering(self._local_access),
            (_AUTHORIZATION, "selfsubjectrulesreviews"): self._answering(self._rules),
            (_AUTHENTICATION, "selfsubjectreviews"): self._answering(self._self),
            (_AUTHENTICATION, "tokenreviews"): self._answering(self._token),
        }

    def _answering(self, answer: Callable[[Context, Obj], Obj]) -> Handler:
        async def handle(core: Core, ctx: Context) -> Reply:
            review = decode_object(ctx.call.body, ctx.call.content_type)
            expect_kind(review, ctx.kind.resource)
            meta.shape(review)
            # For the types of what is asked; what the schema does not know is not asked.
            ctx.kind.schema.prune(review)
            spec = review.setdefault("spec", {})
            review["status"] = answer(ctx, spec)
            return value_reply(review, ctx.format, 201)

        return handle

    def _own_access(self, ctx: Context, spec: Obj) -> Obj:
        return self._decide(ctx.user, spec)

    def _access(self, ctx: Context, spec: Obj) -> Obj:
        return self._decide(_subject(spec), spec)

    def _local_access(self, ctx: Context, spec: Obj) -> Obj:
        attributes = spec.get("resourceAttributes") or {}
        if attributes.get("namespace") != ctx.namespace:
            raise bad_request(
                f"spec.resourceAttributes.namespace: must be {ctx.namespace}, the namespace of the request"
            )
        return self._decide(_subject(spec), spec)

    def _decide(self, user: User, spec: Obj) -> Obj:
        decision = self._authorizer.authorize(user, _attributes(spec))
        status: Obj = {"allowed": decision.allowed}
        if decision.reason:
            status["reason"] = decision.reason
        return status

    def _rules(self, ctx: Context, spec: Obj) -> Obj:
        namespace = spec.get("namespace") or ""
        if not namespace:
            raise bad_request("no namespace on request")
        resource, other = self._authorizer.rules_for(ctx.user, namespace)
        return {
            "resourceRules": [dict(rule) for rule in resource],
            "nonResourceRules": [dict(rule) for rule in other],
            "incomplete": False,
        }

    def _self(self, ctx: Context, spec: Obj) -> Obj:
        return {"userInfo": _user_info(ctx.user)}

    def _token(self, ctx: Context, spec: Obj) -> Obj:
        token = spec.get("token") or ""
        if not token:
            raise bad_request("token is required for TokenReview in authentication")
        if self._tokens is None:
            return {"authenticated": False, "error": "this server verifies no tokens"}
        try:
            verified = self._tokens.verify(str(token), spec.get("audiences") or ())
        except StatusError as error:
            return {"authenticated": False, "error": error.message}
        return {"authenticated": True, "user": _user_info(verified.user), "audiences": list(verified.audiences)}


def _subject(spec: Obj) -> User:
    name, groups = spec.get("user") or "", spec.get("groups") or []
    if not name and not groups:
        raise bad_request("spec.user: at least one of user or group must be specified")
    return User(name, tuple(groups), spec.get("uid") or "", spec.get("extra") or {})


def _attributes(spec: Obj) -> Attributes:
    resource: dict[str, Any] | None = spec.get("resourceAttributes")
    other: dict[str, Any] | None = spec.get("nonResourceAttributes")
    if (resource is None) == (other is None):
        raise bad_request("spec: exactly one of nonResourceAttributes or resourceAttributes must be specified")
    if other is not None:
        return Attributes(other.get("verb") or "", path=other.get("path") or "")
    resource = resource or {}
    return Attributes(
        resource.get("verb") or "",
        resource.get("group") or "",
        # A question about no resource in particular is one about all of them, not a non-resource request.
        resource.get("resource") or "*",
        resource.get("subresource") or "",
        resource.get("namespace") or "",
        resource.get("name") or "",
    )


def _user_info(user: User) -> Obj:
    info: Obj = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info
