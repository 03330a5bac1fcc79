"""An API in a dictionary, and an agent on it: what the agent's tests share."""

import asyncio
import errno
import random
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from corral.agent import mounts
from corral.agent.agent import Agent, AgentConfig
from corral.agent.podnetwork import PodNetwork
from corral.agent.problems.sources import Sources, machine_sources
from corral.client.api import ApiRequest, ApiResponse, WatchEvent
from corral.client.client import Client
from corral.kinds.status import StatusError, already_exists, not_found
from corral.kinds.types import Obj
from corral.testing.clock import FakeClock, settle
from corral.testing.fake_runtime import FakeRuntime


class DictApi:
    """A transport to an API that keeps objects by path: create, get, list, watch, patch, delete, tokens."""

    def __init__(self) -> None:
        self.objects: dict[str, Obj] = {}
        self.revision = 0
        self.calls: list[tuple[str, str]] = []
        self.down = False
        self.refuses = False
        self.statuses: list[Obj] = []
        """Every pod status that was written."""
        self._watchers: list[tuple[str, str, asyncio.Queue[WatchEvent]]] = []

    async def call(self, request: ApiRequest) -> ApiResponse:
        if self.refuses:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the API server does not run")
        if self.down:
            raise ConnectionError("the API server does not answer")
        self.calls.append((request.method, request.path))
        try:
            return ApiResponse(200, orjson.dumps(self._answer(request)))
        except StatusError as error:
            return ApiResponse(error.code, orjson.dumps(error.status()))

    def _answer(self, request: ApiRequest) -> Obj:
        body = orjson.loads(request.body) if request.body else {}
        path = request.path
        if request.method == "POST" and path.endswith("/token"):
            expires = "2026-01-01T01:00:00Z"
            return {"status": {"token": f"token-{len(self.calls)}", "expirationTimestamp": expires}}
        if request.method == "POST":
            return self.put(f"{path}/{body['metadata']['name']}", body, new=True)
        if request.method == "GET" and path not in self.objects and not path.rpartition("/")[2].count("."):
            parent = path.rpartition("/")[2]
            if parent in ("pods", "nodes", "configmaps", "secrets", "events", "persistentvolumes", "repairs"):
                found = [obj for key, obj in self.objects.items() if _within(key, path) and _selects(request, obj)]
                return {"items": found, "metadata": {"resourceVersion": str(self.revision)}}
        key = path.removesuffix("/status")
        if key not in self.objects:
            raise not_found("", "things", key)
        if request.method == "GET":
            return self.objects[key]
        if request.method == "DELETE":
            return self.remove(key, body)
        if request.method == "PATCH":
            if "/pods/" in path and path.endswith("/status"):
                self.statuses.append(body["status"])
            return self.put(key, _merged(self.objects[key], body))
        raise AssertionError(f"the test API has no {request.method} {path}")

    def put(self, key: str, obj: Obj, *, new: bool = False) -> Obj:
        """Write an object and tell watchers."""
        if new and key in self.objects:
            raise already_exists("", "things", key)
        event = "MODIFIED" if key in self.objects else "ADDED"
        self.revision += 1
        metadata = {"uid": f"uid-{self.revision}", **obj["metadata"], "resourceVersion": str(self.revision)}
        self.objects[key] = {**obj, "metadata": metadata}
        self._tell(event, key)
        return self.objects[key]

    def remove(self, key: str, options: Obj) -> Obj:
        obj = self.objects[key]
        self.revision += 1
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.revision)}}
        self.objects[key] = obj
        self._tell("DELETED", key)
        return self.objects.pop(key)

    def mark_deleted(self, key: str, grace: int = 30) -> None:
        """What DELETE on a running pod does."""
        obj = self.objects[key]
        gone = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
        self.put(key, {**obj, "metadata": {**obj["metadata"], **gone}})

    def _tell(self, event: Any, key: str) -> None:
        for path, selector, queue in self._watchers:
            if _within(key, path) and _matches(selector, self.objects[key]):
                queue.put_nowait(WatchEvent(event, orjson.loads(orjson.dumps(self.objects[key]))))

    @asynccontextmanager
    async def watch(self, request: ApiRequest) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        entry = (request.path, request.query.get("fieldSelector", ""), queue)
        self._watchers.append(entry)

        async def events() -> AsyncIterator[WatchEvent]:
            while True:
                yield await queue.get()

        try:
            yield events()
        finally:
            self._watchers.remove(entry)

    async def close(self) -> None:
        """Nothing is held."""


def _within(key: str, path: str) -> bool:
    plural = path.rpartition("/")[2]
    if "/namespaces/" in path:
        return key.startswith(path + "/")
    return f"/{plural}/" in key


def _selects(request: ApiRequest, obj: Obj) -> bool:
    return _matches(request.query.get("fieldSelector", ""), obj)


def _matches(selector: str, obj: Obj) -> bool:
    field, _, value = selector.partition("=")
    if field == "spec.nodeName":
        return bool(obj.get("spec", {}).get("nodeName") == value)
    if field == "metadata.name":
        return bool(obj["metadata"]["name"] == value)
    return True


def _merged(old: Obj, patch: Obj) -> Obj:
    merged = dict(old)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and key in ("status", "metadata", "spec", "labels", "annotations"):
            merged[key] = _merged(old.get(key) or {}, value)
        elif key == "conditions":
            by_type = {item["type"]: item for item in (*(old.get(key) or ()), *value)}
            kept = [{name: field for name, field in item.items() if field is not None} for item in by_type.values()]
            merged[key] = [{"lastProbeTime": None, **item} for item in kept]
        else:
            merged[key] = [item for item in value if "$patch" not in item] if _is_list_of_maps(value) else value
    return merged


def _is_list_of_maps(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


class NoSources:
    """A cell without uploaded sources."""

    async def fetch(self, namespace: str, digest: str, into: Path) -> None:
        raise FileNotFoundError(digest)


class Threads(ThreadPoolExecutor):
    """Knows whether anything is still being done."""

    def __init__(self) -> None:
        super().__init__(max_workers=2)
        self.futures: set[Future[Any]] = set()

    @property
    def busy(self) -> bool:
        self.futures = {future for future in self.futures if not future.done()}
        return bool(self.futures)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future = super().submit(fn, *args, **kwargs)
        self.futures.add(future)
        return future


class Rig:
    """An agent on a fake runtime and a dictionary API."""

    def __init__(self, directory: Path, clock: FakeClock, api: DictApi, runtime: FakeRuntime) -> None:
        self.directory = directory
        self.clock = clock
        self.api = api
        self.runtime = runtime
        self.threads = Threads()
        asyncio.get_running_loop().set_default_executor(self.threads)
        self.agent = self.build()

    def build(self, sources: Sources = machine_sources, network: PodNetwork | None = None, **settings: Any) -> Agent:
        config = AgentConfig("m1", self.directory, "192.0.2.1", port=0, listen="127.0.0.1", **settings)
        return Agent(
            Client(self.api),
            self.runtime,
            config,
            clock=self.clock,
            rng=random.Random(1),
            server_context=None,
            fetch_source=NoSources(),
            sources=sources,
            network=network,
        )

    def add_pod(self, name: str = "web", **spec: Any) -> str:
        """A pod bound to the machine; returns its key."""
        container = {"name": "main", "image": "host", "command": ["sleep", "3600"], "imagePullPolicy": "IfNotPresent"}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "uid": f"u-{name}"},
            "spec": {"nodeName": "m1", "restartPolicy": "Always", "containers": [container], **spec},
            "status": {"phase": "Pending"},
        }
        key = f"/api/v1/namespaces/default/pods/{name}"
        self.api.put(key, pod, new=True)
        return key

    def status(self, name: str = "web") -> Obj:
        status: Obj = self.api.objects[f"/api/v1/namespaces/default/pods/{name}"]["status"]
        return status

    def main(self, name: str = "web") -> Obj:
        found: Obj = self.status(name)["containerStatuses"][0]
        return found

    def events(self) -> list[tuple[str, str]]:
        """(reason, message) of every event."""
        return [(obj["reason"], obj["message"]) for key, obj in self.api.objects.items() if "/events/" in key]

    async def settled(self) -> None:
        """Let everything that is ready happen, and what happens in threads."""
        quiet = 0
        while quiet < 3:
            await settle()
            quiet = 0 if self.threads.busy else quiet + 1
            await asyncio.sleep(0.0005 if self.threads.busy else 0)

    async def advance(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        await self.settled()


@pytest.fixture(autouse=True)
def nothing_stays_mounted(tmp_path: Path) -> Iterator[None]:
    """Fails the test that leaves a mount below its directory."""
    yield
    assert mounts.mounts_below(tmp_path) == []


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def runtime(clock: FakeClock, tmp_path: Path) -> Iterator[FakeRuntime]:
    fake = FakeRuntime(clock, tmp_path / "runtime")
    yield fake
    fake.stop_all()


@pytest.fixture
async def rig(tmp_path: Path, clock: FakeClock, runtime: FakeRuntime) -> AsyncIterator[Rig]:
    built = Rig(tmp_path / "agent", clock, DictApi(), runtime)
    await built.agent.start()
    try:
        yield built
    finally:
        await built.agent.stop()
        # Volumes of pods that go on stay mounted, as they should; the test's directory must go.
        mounts.unmount_below(tmp_path)
