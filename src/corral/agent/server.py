"""The agent's HTTPS server: the kubelet's paths, for the API server and nobody else.

Only a client certificate of the API server (CN `kube-apiserver-kubelet-client`) or of an administrator (O
`system:masters`) is let in; `/healthz` needs none.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import orjson
from aiohttp import web

from corral.agent.files import FileError, tar_stream
from corral.agent.logs import LogOptions, read
from corral.agent.runtime.api import Container, Runtime
from corral.agent.stats import Stats
from corral.base.clock import Clock, parse_rfc3339
from corral.kinds.types import Obj
from corral.wire.raw import Hangup

logger = logging.getLogger(__name__)

ALLOWED_NAME = "kube-apiserver-kubelet-client"
ALLOWED_GROUP = "system:masters"
_SHUTDOWN_SECONDS = 1.0
_JSON = "application/json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Pods(Protocol):
    """What the server asks of the agent."""

    def pod(self, namespace: str, name: str) -> Obj | None:
        """A pod of this machine."""

    def everything(self) -> Sequence[tuple[Obj, Sequence[Container]]]:
        """All pods with their containers."""

    def container(self, namespace: str, pod: str, name: str, *, previous: bool = False) -> Container | None:
        """The newest run of a container, or the one before it."""

    def log(self, pod: Obj, name: str, *, previous: bool) -> tuple[Path, asyncio.Event] | None:
        """Where a run's log is, and what is set when it has ended."""

    def volume(self, pod: Obj, name: str) -> Path | None:
        """Where a volume of the pod is."""

    def volume_of(self, pod: Obj, container: str, path: str) -> tuple[Path, str] | None:
        """The volume mounted over `path` in a container, and the rest of the path."""


class AgentServer:
    """Serves until stopped."""

    def __init__(
        self, pods: Pods, runtime: Runtime, stats: Stats, clock: Clock, streams: Sequence[web.RouteDef]
    ) -> None:
        self._pods = pods
        self._runtime = runtime
        self._stats = stats
        self._clock = clock
        self._streams = streams
        self._runner: web.AppRunner | None = None

    async def start(self, context: ssl.SSLContext | None, host: str, port: int) -> int:
        """Listen; returns the port. Without a TLS context (a trusted test network) everybody is let in."""
        middlewares = [_only_the_api_server] if context is not None else []
        app = web.Application(middlewares=middlewares)
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/pods", self._list),
                web.get("/runningpods/", self._list),
                web.get("/stats/summary", self._summary),
                web.get("/metrics", self._metrics),
                web.get("/metrics/resource", self._resource_metrics),
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._logs),
                web.get("/files/{namespace}/{pod}", self._files),
                *self._streams,
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=context)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    async def _list(self, request: web.Request) -> web.StreamResponse:
        items = [pod for pod, _ in self._pods.everything()]
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
        return web.Response(body=orjson.dumps(body), content_type=_JSON)

    async def _summary(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=orjson.dumps(await self._stats.summary(self._pods.everything())), content_type=_JSON)

    async def _resource_metrics(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=await self._stats.resource_metrics(self._pods.everything()))

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        counts: dict[str, int] = {}
        pods = self._pods.everything()
        for _, containers in pods:
            for container in containers:
                counts[container.state.value] = counts.get(container.state.value, 0) + 1
        lines = ["# TYPE kubelet_running_pods gauge", f"kubelet_running_pods {len(pods)}"]
        lines.append("# TYPE kubelet_running_containers gauge")
        lines += [f'kubelet_running_containers{{container_state="{state}"}} {n}' for state, n in sorted(counts.items())]
        return web.Response(text="\n".join(lines) + "\n")

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        pod = self._pod_of(request)
        name = request.match_info["container"]
        if all(found["name"] != name for found in _containers(pod)):
            raise web.HTTPNotFound(text=f"container {name} not found in pod {pod['metadata']['name']}")
        previous = _flag(request, "previous")
        found = self._pods.log(pod, name, previous=previous)
        if found is None:
            raise web.HTTPBadRequest(text=_no_log(pod, name, previous=previous))
        path, ended = found
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.force_close()
        # A follower of a silent container has nothing written to it by which its going would be noticed.
        hangup = Hangup(request)
        await response.prepare(request)
        await hangup.run(_send(read(path, _log_options(request, self._clock), ended), response))
        return response

    async def _files(self, request: web.Request) -> web.StreamResponse:
        pod = self._pod_of(request)
        root, path = self._root_of(pod, request)
        chunks = tar_stream(root, path)
        try:
            first = await anext(chunks, b"")
        except FileError as error:
            if error.missing:
                raise web.HTTPNotFound(text=error.message) from error
            raise web.HTTPBadRequest(text=error.message) from error
        response = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
        await response.prepare(request)
        await response.write(first)
        async for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
        return response

    def _root_of(self, pod: Obj, request: web.Request) -> tuple[str, str]:
        """Which directory of the machine the request means, and which path in it."""
        path = request.query.get("path") or "."
        volume = request.query.get("volume")
        if volume:
            where = self._pods.volume(pod, volume)
            if where is None:
                raise web.HTTPNotFound(text=f'pod "{pod["metadata"]["name"]}" has no volume "{volume}" on this machine')
            return str(where), path
        name = request.query.get("container") or pod["spec"]["containers"][0]["name"]
        mounted = self._pods.volume_of(pod, name, path)
        if mounted is not None:
            return str(mounted[0]), mounted[1]
        container = self._pods.container(pod["metadata"].get("namespace", ""), pod["metadata"]["name"], name)
        if container is None:
            raise web.HTTPNotFound(text=f'container "{name}" of pod "{pod["metadata"]["name"]}" is not on this machine')
        return self._runtime.root(container.id), path

    def _pod_of(self, request: web.Request) -> Obj:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        pod = self._pods.pod(namespace, name)
        if pod is None:
            raise web.HTTPNotFound(text=f'pod "{name}" not found in namespace "{namespace}" on this machine')
        return pod


async def _send(chunks: AsyncGenerator[bytes, None], response: web.StreamResponse) -> None:
    async with aclosing(chunks):
        async for chunk in chunks:
            await response.write(chunk)
    await response.write_eof()


@web.middleware
async def _only_the_api_server(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path != "/healthz" and not _is_allowed(request):
        raise web.HTTPForbidden(text="this machine's agent serves the cell's API server only: ask there")
    return await handler(request)


def _is_allowed(request: web.Request) -> bool:
    transport = request.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    if not certificate:
        return False
    subject = [pair for group in certificate.get("subject", ()) for pair in group]
    return ("commonName", ALLOWED_NAME) in subject or ("organizationName", ALLOWED_GROUP) in subject


def _containers(pod: Obj) -> list[Obj]:
    spec = pod["spec"]
    return [found for part in ("initContainers", "containers", "ephemeralContainers") for found in spec.get(part) or ()]


def _no_log(pod: Obj, name: str, *, previous: bool) -> str:
    where = f'container "{name}" in pod "{pod["metadata"]["name"]}"'
    if previous:
        return f"previous terminated {where} not found"
    status = pod.get("status") or {}
    everyone = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    states = [found.get("state") or {} for found in everyone if found["name"] == name]
    reason = (states[0].get("waiting") or {}).get("reason") if states else ""
    return f"{where} is waiting to start: {reason or 'ContainerCreating'}"


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("true", "1")


def _log_options(request: web.Request, clock: Clock) -> LogOptions:
    query = request.query
    try:
        since = parse_rfc3339(query["sinceTime"]) if query.get("sinceTime") else None
        if query.get("sinceSeconds"):
            since = clock.now() - timedelta(seconds=int(query["sinceSeconds"]))
        stream = query.get("stream", "")
        return LogOptions(
            follow=_flag(request, "follow"),
            tail=int(query["tailLines"]) if query.get("tailLines") else None,
            since=since,
            limit=int(query["limitBytes"]) if query.get("limitBytes") else None,
            timestamps=_flag(request, "timestamps"),
            stream="" if stream == "All" else stream,
        )
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"cannot read the log options: {error}") from error
