"""The runner: events become keys, failures are values, and writes are held to what is declared."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import orjson
import pytest

from corral.base.errors import CorralError
from corral.client.api import ApiRequest, ApiResponse, WatchEvent
from corral.client.client import Client
from corral.kinds.resources import CONFIG_MAPS, EVENTS, SECRETS
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery import runner
from corral.machinery.api import Done, Permanent, Requeue, Result, Temporary, Tools
from corral.machinery.events import EventRecorder
from corral.machinery.guard import GuardedClient, UndeclaredWrite
from corral.machinery.runner import Runner
from corral.testing.clock import FakeClock, settle


class Api:
    """One collection; what is written comes back on the watch only when `deliver` is called, if `lags`."""

    def __init__(self) -> None:
        self.objects: dict[str, Obj] = {}
        self.revision = 10
        self.lags = False
        self.requests: list[ApiRequest] = []
        self.fails: Callable[[ApiRequest], StatusError | None] = lambda request: None
        self._late: list[WatchEvent] = []
        self._watchers: list[asyncio.Queue[WatchEvent]] = []

    def put(self, name: str, **fields: object) -> Obj:
        self.revision += 1
        metadata = {"name": name, "namespace": "n", "uid": f"uid-{name}", "resourceVersion": str(self.revision)}
        obj: Obj = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, **fields}
        kind = "MODIFIED" if name in self.objects else "ADDED"
        self.objects[name] = obj
        self._late.append(WatchEvent("MODIFIED" if kind == "MODIFIED" else "ADDED", obj))
        if not self.lags:
            self.deliver()
        return obj

    def deliver(self) -> None:
        for event in self._late:
            for watcher in self._watchers:
                watcher.put_nowait(event)
        self._late.clear()

    async def call(self, request: ApiRequest) -> ApiResponse:
        self.requests.append(request)
        error = self.fails(request)
        if error is not None:
            return ApiResponse(error.code, orjson.dumps(error.status()))
        if request.method == "GET":
            metadata = {"resourceVersion": str(self.revision)}
            return ApiResponse(200, orjson.dumps({"metadata": metadata, "items": list(self.objects.values())}))
        body = orjson.loads(request.body)
        if body.get("kind") == "ConfigMap":
            body = self.put(body["metadata"]["name"], data=body.get("data"))
        return ApiResponse(200, orjson.dumps(body))

    @asynccontextmanager
    async def watch(self, request: ApiRequest) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self._watchers.append(queue)

        async def events() -> AsyncIterator[WatchEvent]:
            while True:
                yield await queue.get()

        yield events()

    async def close(self) -> None:
        pass


class Script:
    """A controller that answers as it is told."""

    name = "script"
    reads = (CONFIG_MAPS,)
    writes = ("configmaps",)

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.answer: Callable[[Key], Result] = lambda key: Done()
        self.tools: Tools | None = None
        self.write = False
        self.ignored: Obj | None = None

    def matters(self, resource: Resource, old: Obj, new: Obj) -> bool:
        return self.ignored is None or new.get("data") != self.ignored

    def start(self, tools: Tools) -> None:
        self.tools = tools

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        return [key_of(obj)]

    async def reconcile(self, key: Key) -> Result:
        self.seen.append(key.name)
        assert self.tools is not None
        if self.write:
            self.write = False
            metadata = {"name": key.name, "namespace": "n"}
            await self.tools.client.update(CONFIG_MAPS, {"kind": "ConfigMap", "metadata": metadata})
        return self.answer(key)


class Setup:
    def __init__(self) -> None:
        self.api = Api()
        self.clock = FakeClock()
        self.controller = Script()
        self.runner = Runner(Client(self.api), [self.controller], self.clock, rng=random.Random(1))
        self.task = asyncio.create_task(self.runner.run())


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    made = Setup()
    await settle()
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_events_become_reconciles(setup: Setup) -> None:
    setup.api.put("a")
    await settle()
    assert setup.controller.seen == ["a"]
    assert setup.runner.counters["script"].reconciles == 1


async def test_an_update_that_does_not_matter_is_not_looked_at(setup: Setup) -> None:
    setup.controller.ignored = {"idle": "yes"}
    setup.api.put("a")
    await settle()
    setup.api.put("a", data={"idle": "yes"})
    await settle()
    assert setup.controller.seen == ["a"]
    setup.api.put("a", data={"idle": "no"})
    await settle()
    assert setup.controller.seen == ["a", "a"]


async def test_a_key_that_is_looked_at_for_long_rests(setup: Setup) -> None:
    def looks_long(key: Key) -> Result:
        setup.clock._elapsed += 0.02
        return Done()

    setup.controller.answer = looks_long
    setup.api.put("a")
    await settle()
    for _ in range(3):
        setup.api.put("a")
        await settle()
    assert setup.controller.seen == ["a"]
    await setup.clock.advance(0.17)
    assert setup.controller.seen == ["a"]
    await setup.clock.advance(0.02)
    assert setup.controller.seen == ["a", "a"]
    setup.api.put("b")
    await settle()
    assert setup.controller.seen == ["a", "a", "b"]


async def test_requeue_wakes_up_in_time(setup: Setup) -> None:
    setup.controller.answer = lambda key: Requeue(30)
    setup.api.put("a")
    await setup.clock.advance(29)
    assert setup.controller.seen == ["a"]
    await setup.clock.advance(1)
    assert setup.controller.seen == ["a", "a"]


async def test_failures_are_retried_with_back_off(setup: Setup) -> None:
    def fail(key: Key) -> Result:
        raise ValueError("a bug")

    setup.controller.answer = fail
    setup.api.put("a")
    await setup.clock.advance(1)
    assert 6 <= len(setup.controller.seen) <= 9
    setup.controller.answer = lambda key: Temporary("not yet")
    await setup.clock.advance(1)
    setup.controller.answer = lambda key: Done()
    await setup.clock.advance(600)
    before = len(setup.controller.seen)
    await setup.clock.advance(600)
    assert len(setup.controller.seen) == before


async def test_permanent_waits_for_a_change(setup: Setup) -> None:
    setup.controller.answer = lambda key: Permanent("nonsense")
    setup.api.put("a")
    await setup.clock.advance(600)
    assert setup.controller.seen == ["a"]
    setup.api.put("a")
    await settle()
    assert setup.controller.seen == ["a", "a"]


async def test_the_next_reconcile_sees_the_own_write(setup: Setup) -> None:
    setup.api.put("a")
    await settle()
    setup.api.lags = True
    setup.controller.write = True
    setup.controller.answer = lambda key: Requeue(1)
    setup.api.put("b")
    setup.api.deliver()
    await setup.clock.advance(5)
    assert setup.controller.seen == ["a", "b"]
    setup.api.deliver()
    await setup.clock.advance(2)
    assert len(setup.controller.seen) > 2


async def test_undeclared_writes_are_refused() -> None:
    client = GuardedClient(Client(Api()), "mine", ["configmaps", "pods/status"])
    metadata = {"name": "a", "namespace": "n"}
    await client.create(CONFIG_MAPS, {"kind": "ConfigMap", "metadata": metadata})
    assert client.written[CONFIG_MAPS] > 0
    with pytest.raises(UndeclaredWrite, match=r"cannot write secrets: the controller mine declares configmaps"):
        await client.create(SECRETS, {"kind": "Secret", "metadata": metadata})
    with pytest.raises(UndeclaredWrite, match="configmaps/status"):
        await client.update(CONFIG_MAPS, {"metadata": metadata}, "status")


class _Entry:
    """What an installed package offers."""

    name = "mine"
    dist = None

    def __init__(self, made: Callable[[], object]) -> None:
        self._made = made

    def load(self) -> Callable[[], object]:
        return self._made


def test_installed_controllers_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "entry_points", lambda group: [_Entry(Script)] if group == "corral.controllers" else [])
    (found,) = runner.installed_controllers()
    assert isinstance(found, Script)


def test_a_controller_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> object:
        raise ValueError("no configuration")

    monkeypatch.setattr(runner, "entry_points", lambda group: [_Entry(broken)])
    with pytest.raises(CorralError, match="cannot load the controller 'mine' of an unknown package: ValueError"):
        runner.installed_controllers()


class TestEvents:
    """Recording events."""

    obj: Obj = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": "n", "uid": "u"}}

    async def record(self, api: Api, clock: FakeClock, said: Iterable[tuple[str, str]]) -> EventRecorder:
        recorder = EventRecorder(Client(api), "tester", clock)
        task = asyncio.create_task(recorder.run())
        for reason, message in said:
            await recorder.event(self.obj, "Normal", reason, message)
        await recorder.drain()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return recorder

    async def test_the_same_again_raises_the_count(self) -> None:
        api = Api()
        await self.record(api, FakeClock(), [("Pulled", "x")] * 3 + [("Started", "y")])
        methods = [request.method for request in api.requests]
        assert methods == ["POST", "PATCH", "PATCH", "POST"]
        assert api.requests[0].path == EVENTS.path("n")
        made = orjson.loads(api.requests[0].body)
        assert (made["count"], made["reason"], made["involvedObject"]["uid"]) == (1, "Pulled", "u")
        assert orjson.loads(api.requests[2].body)["count"] == 3

    async def test_too_much_talk_is_dropped(self) -> None:
        api = Api()
        recorder = await self.record(api, FakeClock(), [("R", str(number)) for number in range(40)])
        assert len(api.requests) == 25
        assert recorder.dropped == 15

    async def test_a_refusal_does_not_stop_the_recorder(self) -> None:
        api = Api()
        refusals = [StatusError(500, "InternalError", "no")]
        api.fails = lambda request: refusals.pop() if refusals else None
        await self.record(api, FakeClock(), [("A", "1"), ("B", "2")])
        assert len(api.requests) == 2
