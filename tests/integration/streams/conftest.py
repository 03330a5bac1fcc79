"""An API server's front and an agent, joined by the real dialer over TLS, with processes of this machine behind."""

import asyncio
import functools
import importlib.util
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvloop
from aiohttp import web

from corral.agent.streams import attach_handler, exec_handler, port_forward_handler
from corral.apiserver.auth import kubeconfig
from corral.apiserver.auth.pki import Pki
from corral.apiserver.streams import NodeDialer
from corral.kinds.status import StatusError, not_found
from corral.wire.raw import Hangup

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "default", "uid": "u-1"},
    "spec": {
        "nodeName": "n1",
        "containers": [{"name": "main", "image": "host", "stdin": True, "ports": [{"containerPort": 8080}]}],
    },
    "status": {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "main",
                "ready": True,
                "restartCount": 0,
                "image": "host",
                "imageID": "x",
                "state": {"running": {}},
            }
        ],
    },
}


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"streams_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class Cell:
    """What a test talks to."""

    runtime: Any
    pki: Pki
    url: str
    directory: Path
    agent_port: int
    dropped: asyncio.Event

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "KUBECONFIG": str(self.directory / "kubeconfig"),
            "TERM": "xterm",
        }

    async def kubectl(
        self, binary: Path, *args: str, stdin: bytes | None = b"", **env: str
    ) -> tuple[int, bytes, bytes]:
        """Run kubectl; exit code, stdout, stderr."""
        process = await asyncio.create_subprocess_exec(
            str(binary),
            *args,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**self.environment(), **env},
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(stdin), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, out, err


async def _serve(app: web.Application, context: Any) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening, ssl_context=context).start()
    return runner, listening.getsockname()[1]


def _find_container(namespace: str, pod: str, uid: str, container: str) -> str:
    if (namespace, pod) != ("default", "web") or container not in ("", "main"):
        raise not_found("", "pods", pod)
    return "c-1"


def _find_sandbox(namespace: str, pod: str, uid: str) -> str:
    if (namespace, pod) != ("default", "web"):
        raise not_found("", "pods", pod)
    return "s-1"


def _agent(runtime: Any, dropped: asyncio.Event) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/exec/{namespace}/{pod}/{container}", exec_handler(runtime, _find_container))
    app.router.add_route("*", "/attach/{namespace}/{pod}/{container}", attach_handler(runtime, _find_container))
    app.router.add_route("*", "/portForward/{namespace}/{pod}", port_forward_handler(runtime, _find_sandbox))

    async def logs(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        await response.write(b"one\ntwo\n")
        if request.query.get("follow") == "true":
            # A log that never says more: only the end of the request ends it.
            await Hangup(request).gone.wait()
            dropped.set()
        return response

    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", logs)
    return app


def _front(dialer: NodeDialer, agent_port: int) -> web.Application:
    app = web.Application()

    async def proxy(request: web.Request, agent_path: str) -> web.StreamResponse:
        try:
            container = request.query.get("container", "main")
            path = agent_path.format(pod=request.match_info["pod"], container=container)
            return await dialer.proxy(request, "127.0.0.1", agent_port, path, request.rel_url.raw_query_string)
        except StatusError as error:
            return web.json_response(error.status(), status=error.code)

    paths = {
        "exec": "/exec/default/{pod}/{container}",
        "attach": "/attach/default/{pod}/{container}",
        "portforward": "/portForward/default/{pod}",
        "log": "/containerLogs/default/{pod}/{container}",
    }
    for subresource, agent_path in paths.items():
        handler = functools.partial(proxy, agent_path=agent_path)
        app.router.add_route("*", f"/api/v1/namespaces/default/pods/{{pod}}/{subresource}", handler)
    answers = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
        "/api/v1": {
            "kind": "APIResourceList",
            "groupVersion": "v1",
            "resources": [
                {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"]}
            ],
        },
        "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.0"},
        "/api/v1/namespaces/default/pods/web": POD,
    }
    for path, answer in answers.items():
        app.router.add_get(path, functools.partial(_answer, answer=answer))
    return app


async def _answer(request: web.Request, answer: Any) -> web.StreamResponse:
    return web.json_response(answer)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that a cell runs on: its TLS transports differ from asyncio's."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[Cell]:
    """A front and an agent; every process that a test started through them is ended."""
    local = _load("local")
    runtime, dropped = local.LocalRuntime(), asyncio.Event()
    pki = Pki.open(tmp_path / "pki", hosts=[])
    agent, agent_port = await _serve(_agent(runtime, dropped), pki.agent_server_context("n1", ["127.0.0.1"]))
    dialer = NodeDialer(pki.client_context("kube-apiserver-kubelet-client", []))
    front, port = await _serve(_front(dialer, agent_port), pki.server_context())
    url = f"https://127.0.0.1:{port}"
    certificate, key = pki.issue_client("tester", ["system:masters"], timedelta(hours=1))
    kubeconfig.write(tmp_path / "kubeconfig", url, pki.ca_pem, certificate, key, "test")
    yield Cell(runtime, pki, url, tmp_path, agent_port, dropped)
    await dialer.close()
    await front.cleanup()
    await agent.cleanup()
    for process in runtime.processes:
        await process.close()
