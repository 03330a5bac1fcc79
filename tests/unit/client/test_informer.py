"""The local copy stays true through every fault of the watch."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from corral.client.api import ApiRequest, ApiResponse, WatchEvent
from corral.client.client import Client
from corral.client.informer import Event, Informer
from corral.kinds.resources import CONFIG_MAPS
from corral.kinds.status import Cause, StatusError
from corral.kinds.types import Key, Obj
from corral.testing.clock import FakeClock, settle

Watcher = asyncio.Queue[WatchEvent | None]


class FakeCollection:
    """A `Transport` over one collection of ConfigMaps; `break_watches` and `expire` are its faults."""

    def __init__(self) -> None:
        self.objects: dict[str, Obj] = {}
        self.log: list[tuple[int, WatchEvent]] = []
        self.revision = 100
        self.oldest = 100
        self.watchers: list[Watcher] = []
        self.lists = 0
        self.requests: list[ApiRequest] = []
        self.down = False

    def put(self, name: str, **fields: object) -> Obj:
        self.revision += 1
        old = self.objects.get(name)
        uid = old["metadata"]["uid"] if old else f"uid-{self.revision}"
        metadata = {"name": name, "namespace": "default", "uid": uid, "resourceVersion": str(self.revision)}
        obj: Obj = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, **fields}
        self.objects[name] = obj
        self._publish(WatchEvent("MODIFIED" if old else "ADDED", obj))
        return obj

    def remove(self, name: str) -> None:
        self.revision += 1
        obj = self.objects.pop(name)
        metadata = {**obj["metadata"], "resourceVersion": str(self.revision)}
        self._publish(WatchEvent("DELETED", {**obj, "metadata": metadata}))

    def bookmark(self) -> None:
        event = WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": str(self.revision)}})
        for watcher in self.watchers:
            watcher.put_nowait(event)

    def _publish(self, event: WatchEvent) -> None:
        self.log.append((self.revision, event))
        for watcher in self.watchers:
            watcher.put_nowait(event)

    def expire(self) -> None:
        """Forget history: watches from before now are refused."""
        self.oldest = self.revision

    def break_watches(self) -> None:
        """End all watches as a lost connection would; new ones succeed."""
        for watcher in self.watchers:
            watcher.put_nowait(None)
        self.watchers.clear()

    async def call(self, request: ApiRequest) -> ApiResponse:
        self.requests.append(request)
        if self.down:
            raise ConnectionError("cannot reach the server")
        self._refuse_future(request)
        self.lists += 1
        body = {"metadata": {"resourceVersion": str(self.revision)}, "items": list(self.objects.values())}
        return ApiResponse(200, orjson.dumps(body))

    def _refuse_future(self, request: ApiRequest) -> None:
        if int(request.query.get("resourceVersion") or 0) > self.revision:
            cause = Cause("ResourceVersionTooLarge", "Too large resource version")
            raise StatusError(504, "Timeout", "too large", causes=[cause])

    @asynccontextmanager
    async def watch(self, request: ApiRequest) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        self._refuse_future(request)
        self.requests.append(request)
        if self.down:
            raise ConnectionError("cannot reach the server")
        after = int(request.query["resourceVersion"])
        if after < self.oldest:
            raise StatusError(410, "Expired", "too old resource version")
        watcher: Watcher = asyncio.Queue()
        for revision, event in self.log:
            if revision > after:
                watcher.put_nowait(event)
        self.watchers.append(watcher)
        yield _events(watcher)

    async def close(self) -> None:
        self.break_watches()


async def _events(watcher: Watcher) -> AsyncIterator[WatchEvent]:
    while (event := await watcher.get()) is not None:
        yield event


class Setup:
    def __init__(self) -> None:
        self.api = FakeCollection()
        self.clock = FakeClock()
        self.informer = Informer(Client(self.api), CONFIG_MAPS, clock=self.clock, rng=random.Random(1))
        self.events: list[tuple[str, str]] = []
        self.informer.on_event(self._note)
        self.task: asyncio.Task[None] | None = None

    def _note(self, event: Event) -> None:
        self.events.append((event.type, event.key.name))

    async def start(self) -> None:
        self.task = asyncio.create_task(self.informer.run())
        await settle()

    def names(self) -> set[str]:
        return {obj["metadata"]["name"] for obj in self.informer.items()}


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    made = Setup()
    yield made
    if made.task is not None:
        made.task.cancel()
        await asyncio.gather(made.task, return_exceptions=True)


async def test_lists_then_follows(setup: Setup) -> None:
    setup.api.put("a")
    await setup.start()
    assert setup.informer.synced.is_set()
    setup.api.put("b")
    setup.api.put("a", data={"x": "1"})
    setup.api.remove("b")
    await settle()
    assert setup.events == [("added", "a"), ("added", "b"), ("updated", "a"), ("deleted", "b")]
    assert setup.names() == {"a"}
    assert setup.informer.revision == setup.api.revision


async def test_resumes_after_a_lost_connection_without_listing(setup: Setup) -> None:
    setup.api.put("a")
    await setup.start()
    setup.api.break_watches()
    setup.api.remove("a")
    setup.api.put("b")
    await setup.clock.advance(60)
    assert setup.names() == {"b"}
    assert setup.api.lists == 1


async def test_relists_when_the_revision_is_compacted_and_tells_deletes(setup: Setup) -> None:
    setup.api.put("a")
    setup.api.put("b")
    await setup.start()
    setup.api.break_watches()
    setup.api.remove("a")
    setup.api.put("c")
    setup.api.expire()
    await setup.clock.advance(60)
    assert setup.names() == {"b", "c"}
    assert setup.events[2:] == [("deleted", "a"), ("added", "c")]
    assert setup.api.lists == 2


async def test_a_new_object_under_an_old_name_is_a_delete_and_an_add(setup: Setup) -> None:
    setup.api.put("a")
    await setup.start()
    setup.api.break_watches()
    setup.api.remove("a")
    setup.api.put("a")
    setup.api.expire()
    await setup.clock.advance(60)
    assert setup.events == [("added", "a"), ("deleted", "a"), ("added", "a")]


async def test_bookmarks_move_the_resume_point(setup: Setup) -> None:
    await setup.start()
    setup.api.revision += 50
    setup.api.bookmark()
    await settle()
    assert setup.informer.revision == setup.api.revision


async def test_waits_for_a_write(setup: Setup) -> None:
    await setup.start()
    wait = asyncio.create_task(setup.informer.wait_for(Key("default", "a"), str(setup.api.revision + 2)))
    setup.api.put("a")
    await settle()
    assert not wait.done()
    setup.api.put("a", data={})
    await settle()
    assert wait.done()


async def test_backs_off_while_the_server_is_down(setup: Setup) -> None:
    setup.api.down = True
    await setup.start()
    await setup.clock.advance(600)
    assert 15 <= len(setup.api.requests) <= 60
    setup.api.down = False
    setup.api.put("a")
    await setup.clock.advance(30)
    assert setup.names() == {"a"}


async def test_an_index_follows_the_objects(setup: Setup) -> None:
    setup.api.put("a", data={"colour": "red"})
    await setup.start()
    setup.informer.add_index("colour", lambda obj: [obj.get("data", {}).get("colour", "none")])
    assert [obj["metadata"]["name"] for obj in setup.informer.index("colour", "red")] == ["a"]
    setup.api.put("a", data={"colour": "blue"})
    setup.api.put("b", data={"colour": "blue"})
    setup.api.remove("b")
    await settle()
    assert setup.informer.index("colour", "red") == []
    assert [obj["metadata"]["name"] for obj in setup.informer.index("colour", "blue")] == ["a"]


async def test_a_failing_handler_does_not_stop_the_copy(setup: Setup) -> None:
    def fail(event: Event) -> None:
        raise ValueError(event.key)

    setup.informer.on_event(fail)
    await setup.start()
    setup.api.put("a")
    await settle()
    assert setup.names() == {"a"}


async def test_random_faults_never_lose_a_change() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        setup = Setup()
        replica: dict[str, str] = {}

        def follow(event: Event, replica: dict[str, str] = replica) -> None:
            if event.new is None:
                del replica[event.key.name]
            else:
                replica[event.key.name] = event.new["metadata"]["resourceVersion"]

        setup.informer.on_event(follow)
        await setup.start()
        for _ in range(60):
            name = rng.choice("abcd")
            if name in setup.api.objects and rng.random() < 0.4:
                setup.api.remove(name)
            else:
                setup.api.put(name)
            if rng.random() < 0.2:
                setup.api.break_watches()
            if rng.random() < 0.1:
                setup.api.expire()
            if rng.random() < 0.3:
                await setup.clock.advance(rng.random() * 5)
        await setup.clock.advance(120)
        assert replica == {name: obj["metadata"]["resourceVersion"] for name, obj in setup.api.objects.items()}
        assert setup.task is not None
        setup.task.cancel()
        await asyncio.gather(setup.task, return_exceptions=True)


async def test_never_goes_back_in_time_to_a_server_that_lags_behind(setup: Setup) -> None:
    setup.api.put("a")
    await setup.start()
    setup.api.remove("a")
    await settle()
    seen = setup.api.revision
    setup.api.revision -= 1
    setup.api.objects["a"] = {"metadata": {"name": "a", "namespace": "default", "uid": "u", "resourceVersion": "101"}}
    setup.api.break_watches()
    await setup.clock.advance(4)
    assert setup.names() == set()
    setup.api.revision = seen
    setup.api.objects.clear()
    setup.api.put("b")
    await setup.clock.advance(4)
    assert setup.names() == {"b"}
    assert setup.api.lists == 1


async def test_lists_anew_when_the_store_counts_anew(setup: Setup) -> None:
    setup.api.put("a")
    setup.api.put("b")
    await setup.start()
    setup.api.remove("a")
    await settle()
    setup.api.revision = setup.api.oldest = 50
    setup.api.log.clear()
    setup.api.put("b", data={"from": "backup"})
    setup.api.break_watches()
    await setup.clock.advance(30)
    assert setup.names() == {"b"}
    assert setup.informer.revision == setup.api.revision


async def test_the_first_list_is_no_older_than_asked_for(setup: Setup) -> None:
    setup.informer.revision = setup.api.revision + 1
    await setup.start()
    await setup.clock.advance(1)
    assert not setup.informer.synced.is_set()
    setup.api.put("a")
    await setup.clock.advance(3)
    assert setup.names() == {"a"}
