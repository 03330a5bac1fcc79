"""The API server: from a call to an answer. It knows paths, verbs and permissions; fronts know connections.

`dispatch` answers reads at once and without a task, because they come from memory; writes are awaited. Authorization
comes before anything else that depends on the object asked for, so that a refusal tells nothing.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import perf_counter
from typing import TypeAlias

import orjson
from aiohttp import web

from corral.apiserver.admission.chain import Chain, plugins
from corral.apiserver.admission.tolerations import SECONDS
from corral.apiserver.answers import refusal
from corral.apiserver.auth.api import Attributes, Authorizer, User
from corral.apiserver.auth.tokens import TokenIssuer
from corral.apiserver.bundled import install_bundled
from corral.apiserver.context import Call, Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.crds import CustomKinds
from corral.apiserver.decoding import decode_object
from corral.apiserver.discovery import Discovery, Extension
from corral.apiserver.expiry import EventExpiry
from corral.apiserver.metrics import Metrics
from corral.apiserver.negotiation import choose
from corral.apiserver.nonresource import NonResources
from corral.apiserver.openapi import OpenApi
from corral.apiserver.options import flag
from corral.apiserver.reviews import Reviews
from corral.apiserver.routing import Target, split, verb_of
from corral.apiserver.streams.dialer import NodeDialer
from corral.apiserver.subresources.binding import bind
from corral.apiserver.subresources.table import CONNECTS, STREAMS, handlers
from corral.apiserver.verbs.create import create
from corral.apiserver.verbs.delete import delete
from corral.apiserver.verbs.delete_collection import delete_collection
from corral.apiserver.verbs.get import get
from corral.apiserver.verbs.list import list_
from corral.apiserver.verbs.patch import patch
from corral.apiserver.verbs.update import update
from corral.apiserver.verbs.watch import watch
from corral.apiserver.watching import Watching
from corral.base.clock import Clock
from corral.base.errors import CorralError
from corral.client.api import ApiRequest, ApiResponse
from corral.kinds.health import NO_ROOM, STORE_BROKEN
from corral.kinds.kind import Kind
from corral.kinds.registry import Registry
from corral.kinds.resources import PODS
from corral.kinds.selectors import FieldSelector
from corral.kinds.status import (
    StatusError,
    bad_request,
    forbidden,
    internal,
    method_not_allowed,
    path_not_found,
    unavailable,
)
from corral.store.fence import Fenced
from corral.store.protocol import Broken, Full, Store, Unavailable

log = logging.getLogger(__name__)

GROUP, VERSION = "corral.dev", "v1"
"""Where Corral's own resources are."""

Answer: TypeAlias = Reply | Watching | Awaitable[Reply]
StreamHandler: TypeAlias = Callable[[web.Request, User, str, str], Awaitable[web.StreamResponse]]
Verb: TypeAlias = Callable[[Core, Context], Answer]


class Served(Extension, frozen=True):
    """A resource of our own group and what serves it."""

    handler: StreamHandler


class ApiServer:
    """One server's verbs over one store.

    `tokens` issues and reviews tokens; `node_dialer` reaches agents: without it streams are refused with 503.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        authorizer: Authorizer,
        *,
        clock: Clock,
        rng: random.Random,
        tokens: TokenIssuer | None,
        node_dialer: NodeDialer | None,
        unreachable_seconds: int = SECONDS,
    ) -> None:
        self.authorizer = authorizer
        self.node_dialer = node_dialer
        self.metrics = Metrics()
        self.core = Core(store, registry, Chain(plugins(authorizer, unreachable_seconds)), clock, rng)
        self._registry = registry
        self._custom_kinds = CustomKinds(self.core)
        self._expiry: asyncio.Task[None] | None = None
        self._discovery = Discovery(registry, GROUP, VERSION)
        self._other = NonResources(store, self._discovery, OpenApi(registry), self.metrics, tokens)
        self._virtual = {**Reviews(authorizer, tokens).handlers(), ("", "bindings"): self._bind}
        self._subresources = handlers(tokens)
        self._extensions: dict[tuple[str, str], Served] = {}
        self._verbs: dict[str, Verb] = {
            "get": get,
            "list": list_,
            "watch": watch,
            "create": create,
            "update": update,
            "patch": patch,
            "delete": delete,
            "deletecollection": delete_collection,
        }

    async def start(self) -> None:
        """Serve custom kinds as well, and clear old events away."""
        await install_bundled(self.core)
        await self._custom_kinds.start()
        self._expiry = asyncio.create_task(EventExpiry(self.core).run(), name="event expiry")

    async def stop(self) -> None:
        """End background work; calls that run go on."""
        if self._expiry is not None:
            self._expiry.cancel()
            with suppress(asyncio.CancelledError):
                await self._expiry
        await self._custom_kinds.stop()

    def extend(
        self, *, plural: str, subresource: str = "", namespaced: bool, verbs: tuple[str, ...], handler: StreamHandler
    ) -> None:
        """Serve `/apis/corral.dev/v1/.../{plural}[/{name}[/{subresource}]]` by `handler(request, user, namespace,
        name)`, over HTTP only. Authorization is done before it is called; it may raise StatusError."""
        served = Served(plural, subresource, namespaced, verbs, handler)
        self._extensions[plural, subresource] = served
        self._discovery.extend(served)

    async def handle(self, request: ApiRequest, user: User) -> ApiResponse:
        """One call in-process; a watch goes through `dispatch`."""
        call = Call(
            request.method, request.path, user, request.query, request.body, request.content_type, request.accept
        )
        answer = self.dispatch(call)
        if isinstance(answer, Watching):
            answer.close()
            reply = refusal(bad_request("cannot answer a watch by one response: use the transport's watch"))
        else:
            reply = answer if isinstance(answer, Reply) else await answer
        return ApiResponse(reply.status, reply.body, reply.content_type)

    def dispatch(self, call: Call) -> Answer:
        """The answer to a call, or the promise of one. Raises nothing: refusals are answers."""
        begin = perf_counter()
        verb, plural = call.method, ""
        try:
            target = split(call.path)
            if target is None:
                answer = self._non_resource(call)
            else:
                ctx = self.resolve(call, target)
                verb, plural = ctx.verb, target.plural
                answer = self._perform(ctx)
        except StatusError as error:
            answer = refusal(error)
        except Exception:
            answer = self._failure(call)
        if isinstance(answer, Reply):
            self.metrics.count(verb, plural, answer.status, perf_counter() - begin)
        elif not isinstance(answer, Watching):
            answer = self._finish(call, answer, verb, plural, begin)
        return answer

    async def _finish(self, call: Call, pending: Awaitable[Reply], verb: str, plural: str, begin: float) -> Reply:
        try:
            reply = await pending
        except StatusError as error:
            reply = refusal(error)
        except (Full, Broken) as error:
            reply = refusal(_unwritable(error))
        except (Unavailable, Fenced) as error:
            reply = refusal(unavailable(_on_one_line(error)))
        except (RecursionError, orjson.JSONEncodeError) as error:
            reply = refusal(
                bad_request(f"cannot take the object, it is nested too deeply or has too large a number: {error}")
            )
        except CorralError as error:
            # The remedy is for whoever asks, too.
            reply = refusal(internal(_on_one_line(error)))
        except Exception:
            reply = self._failure(call)
        self.metrics.count(verb, plural, reply.status, perf_counter() - begin)
        return reply

    def _failure(self, call: Call) -> Reply:
        log.exception("cannot answer %s %s", call.method, call.path)
        return refusal(internal("a defect in the server; its log has the details"))

    def _non_resource(self, call: Call) -> Answer:
        verb = call.method.lower()
        decision = self.authorizer.authorize(call.user, Attributes(verb, path=call.path))
        if not decision.allowed:
            raise StatusError(403, "Forbidden", f"forbidden: {decision.reason}")
        return self._other.reply(call)

    def resolve(self, call: Call, target: Target) -> Context:
        """What a call on a resource means, if its sender may do that.

        Raises:
            StatusError: 403, 404, 405, 406.
        """
        watching = flag(call.query, "watch") if call.query and not target.subresource else False
        verb = verb_of(call.method, target.name, watching)
        if target.subresource and call.method == "POST":
            verb = "create"
        if not verb:
            raise method_not_allowed()
        self.authorize(call, target, verb)
        kind = self._registry.get(target.group, target.version, target.plural)
        if kind is None or (target.namespace and not kind.resource.namespaced):
            raise path_not_found()
        if kind.resource.namespaced and target.name and not target.namespace:
            raise path_not_found()
        listing = verb in ("list", "watch", "deletecollection")
        form = choose(call.accept, listing=listing)
        return Context(call, verb, kind, target.namespace, target.name, target.subresource, form)

    def authorize(self, call: Call, target: Target, verb: str) -> None:
        """Raises StatusError 403 unless the sender may."""
        name, fields = target.name, call.query.get("fieldSelector", "")
        if not name and fields:
            # "Only this one" is a question about an object, which is what an agent may ask about a pod's secret.
            name = FieldSelector.parse(fields).required("metadata.name") or ""
        attributes = Attributes(
            verb,
            target.group,
            target.plural,
            target.subresource,
            target.namespace,
            name,
            field_selector=fields,
            label_selector=call.query.get("labelSelector", "") if call.query else "",
        )
        decision = self.authorizer.authorize(call.user, attributes)
        if not decision.allowed:
            raise forbidden(target.group, target.plural, target.name, decision.reason)

    def _perform(self, ctx: Context) -> Answer:
        kind, verb = ctx.kind, ctx.verb
        if ctx.subresource:
            return self._subresource(ctx)
        if verb not in kind.verbs:
            raise method_not_allowed()
        if verb == "create":
            if kind.resource.namespaced and not ctx.namespace:
                raise bad_request("an empty namespace may not be set during creation")
            special = self._virtual.get((kind.resource.group, kind.resource.plural))
            if special is not None:
                return special(self.core, ctx)
        return self._verbs[verb](self.core, ctx)

    def _subresource(self, ctx: Context) -> Answer:
        if ctx.subresource not in ctx.kind.subresources:
            raise path_not_found()
        if ctx.subresource in STREAMS:
            raise bad_request(f"{ctx.plural}/{ctx.subresource} is served over HTTP connections only")
        handler = self._subresources.get(ctx.subresource, {}).get(ctx.verb)
        if handler is None:
            raise method_not_allowed()
        return handler(self.core, ctx)

    async def _bind(self, core: Core, ctx: Context) -> Reply:
        """The older form of `pods/binding`: POST to the collection `bindings`."""
        binding = decode_object(ctx.call.body, ctx.call.content_type)
        name = str((binding.get("metadata") or {}).get("name") or "")
        return await bind(core, Context(ctx.call, "create", self._pods(), ctx.namespace, name, "binding", ctx.format))

    def _pods(self) -> Kind:
        kind = self._registry.get(PODS.group, PODS.version, PODS.plural)
        if kind is None:
            raise path_not_found()
        return kind

    def is_stream(self, target: Target) -> bool:
        """Whether a path is answered by a handler that needs the connection itself."""
        if target.group == GROUP:
            return (target.plural, target.subresource) in self._extensions
        return target.subresource in STREAMS and not target.group

    def extension(self, target: Target) -> Served | None:
        """What serves a path of our own group."""
        if (target.group, target.version) != (GROUP, VERSION):
            return None
        return self._extensions.get((target.plural, target.subresource))


def stream_verb(target: Target, method: str) -> str:
    """The verb that a stream takes permission for."""
    if target.subresource in CONNECTS:
        return "create"
    return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(method, "get")


def _unwritable(error: Full | Broken) -> StatusError:
    """The refusal of writes while the disk is full, or once it has failed; reads go on."""
    if isinstance(error, Full):
        return StatusError(507, NO_ROOM, _on_one_line(error))
    return StatusError(500, STORE_BROKEN, _on_one_line(error))


def _on_one_line(error: CorralError) -> str:
    return f"{error.message}; {error.remedy}" if error.remedy else error.message
