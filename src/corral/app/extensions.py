"""Corral's own resources in the API group corral.dev, from sources and plans to pods/why and nodes/images."""

import asyncio
from datetime import UTC, datetime

import orjson
from aiohttp import web

from corral.apiserver.auth.api import Attributes, User
from corral.apiserver.decoding import decode_object
from corral.apiserver.http.lane import read_body
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.apiserver.sources import Sources
from corral.apiserver.streams import NodeDialer
from corral.apiserver.subresources.streams import address_of
from corral.app import joining
from corral.app.config import CellConfig
from corral.app.manager import Manager
from corral.base.clock import rfc3339
from corral.client.client import Client
from corral.kinds.resources import CLUSTER_QUEUES, LOCAL_QUEUES, NODES, PODS
from corral.kinds.status import bad_request, forbidden, method_not_allowed, not_found
from corral.kinds.types import Key, Obj
from corral.store import backup

BACKUP_PATH = "/apis/corral.dev/v1/backups/now"
"""Where all of the cell's state can be read, by who may get `backups` and everything that is in them."""
_EVERYTHING = Attributes("get", "*", "*")
_HOLDS_EVERYTHING = "it holds every object, also secrets: ask for a role with `get` on all resources of all apiGroups"


def install(config: CellConfig, server: ApiServer, dialer: NodeDialer, sources: Sources, manager: Manager) -> None:
    """Serve them; authorization is the server's (RBAC on these names)."""

    def node(name: str) -> Obj:
        found = server.core.find(NODES, "", name)
        if found is None:
            raise not_found("", NODES.plural, name)
        return found

    async def why(request: web.Request, user: User, namespace: str, name: str) -> web.StreamResponse:
        answer = manager.scheduler.why(namespace, name)
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    async def pending(request: web.Request, user: User, namespace: str, name: str) -> web.StreamResponse:
        answer = manager.queues.look(Key(namespace, name))
        if answer is None:
            resource = LOCAL_QUEUES if namespace else CLUSTER_QUEUES
            raise not_found(resource.group, resource.plural, name)
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    async def authorities(request: web.Request, user: User, namespace: str, name: str) -> web.StreamResponse:
        if name != "cell":
            raise not_found("corral.dev", "authorities", name)
        return joining.authority(config, user)

    async def plans(request: web.Request, user: User, namespace: str, name: str) -> web.StreamResponse:
        if name:
            raise method_not_allowed()
        body = decode_object(await read_body(request), request.headers.get("Content-Type", ""))
        items = body.get("items")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise bad_request("cannot plan: items must be a list of objects")
        answer = await manager.planner.plan(items, namespace, Client(InProcessTransport(server, user)))
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    async def files(request: web.Request, user: User, namespace: str, name: str) -> web.StreamResponse:
        pod = server.core.find(PODS, namespace, name)
        if pod is None:
            raise not_found("", PODS.plural, name)
        machine = pod["spec"].get("nodeName")
        if not machine:
            raise bad_request(f"pod {name} has no files: it is on no machine yet")
        host, port = address_of(node(machine))
        return await dialer.proxy(request, host, port, f"/files/{namespace}/{name}", request.rel_url.raw_query_string)

    async def images(request: web.Request, user: User, namespace: str, name: str) -> web.StreamResponse:
        host, port = address_of(node(name))
        return await dialer.proxy(request, host, port, "/images/load", request.rel_url.raw_query_string)

    server.extend(plural="authorities", namespaced=False, verbs=("get",), handler=authorities)
    serve_backups(server)
    server.extend(plural="sources", namespaced=True, verbs=("get", "update"), handler=sources.handle)
    server.extend(plural="plans", namespaced=True, verbs=("create",), handler=plans)
    server.extend(plural="pods", subresource="why", namespaced=True, verbs=("get",), handler=why)
    server.extend(plural="localqueues", subresource="pending", namespaced=True, verbs=("get",), handler=pending)
    server.extend(plural="clusterqueues", subresource="pending", namespaced=False, verbs=("get",), handler=pending)
    server.extend(plural="pods", subresource="files", namespaced=True, verbs=("get",), handler=files)
    server.extend(plural="nodes", subresource="images", namespaced=False, verbs=("create",), handler=images)


def serve_backups(server: ApiServer) -> None:
    """Serve `BACKUP_PATH`."""

    async def backups(request: web.Request, user: User, namespace: str, name: str) -> web.StreamResponse:
        if name != "now":
            raise not_found("corral.dev", "backups", name)
        if not server.authorizer.authorize(user, _EVERYTHING).allowed:
            raise forbidden("corral.dev", "backups", name, _HOLDS_EVERYTHING)
        entries, revision = server.core.store.current("/")
        content = backup.lines(entries, revision, rfc3339(datetime.now(UTC)))
        return web.Response(body=await asyncio.to_thread(backup.compress, content), content_type="application/gzip")

    server.extend(plural="backups", namespaced=False, verbs=("get",), handler=backups)
