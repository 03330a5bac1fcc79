"""Bindings first, news of them later, and nothing said twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import orjson

from corral.client.api import ApiRequest, ApiResponse, WatchEvent
from corral.client.client import Client
from corral.kinds.status import not_found
from corral.kinds.types import Key, Obj
from corral.machinery.events import EventRecorder
from corral.scheduler.binder import Binder, Outcome
from corral.testing.clock import FakeClock, settle
from corral.testing.scheduling import pod


class Server:
    """A transport that notes the calls and holds bindings of pods called `slow` until `open` is set."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.bodies: list[Obj] = []
        self.open = asyncio.Event()
        self.missing = False

    async def call(self, request: ApiRequest) -> ApiResponse:
        self.calls.append((request.method, request.path))
        self.bodies.append(orjson.loads(request.body))
        if request.path.endswith("/binding"):
            if "/slow/" in request.path:
                await self.open.wait()
            if self.missing:
                return ApiResponse(404, orjson.dumps(not_found("", "pods", "p").status()))
        return ApiResponse(201, b"{}")

    def watch(self, request: ApiRequest) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        raise NotImplementedError

    async def close(self) -> None: ...

    def events(self) -> int:
        return sum(path.endswith("/events") for _, path in self.calls)


class Room:
    """A binder with everything around it."""

    def __init__(self) -> None:
        self.server = Server()
        self.clock = FakeClock()
        self.outcomes: list[Outcome] = []
        client = Client(self.server)
        recorder = EventRecorder(client, "default-scheduler", self.clock)
        self.binder = Binder(client, recorder, self.clock, self.outcomes.append)
        self._tasks = [asyncio.create_task(recorder.run()), asyncio.create_task(self.binder.announce())]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_a_binding_names_pod_uid_and_machine() -> None:
    room = Room()
    await room.binder.bind(pod("p"), "a")
    await settle()
    assert room.server.calls[0] == ("POST", "/api/v1/namespaces/default/pods/p/binding")
    assert room.server.bodies[0]["target"] == {"apiVersion": "v1", "kind": "Node", "name": "a"}
    assert room.server.bodies[0]["metadata"] == {"name": "p", "namespace": "default", "uid": "uid-p"}
    assert room.outcomes == [Outcome(Key("default", "p"), "uid-p", bound=True)]
    assert room.server.bodies[1]["message"] == "Successfully assigned default/p to a"
    await room.close()


async def test_a_binding_that_is_refused_is_no_news() -> None:
    room = Room()
    room.server.missing = True
    await room.binder.bind(pod("p"), "a")
    await settle()
    assert room.outcomes == [Outcome(Key("default", "p"), "uid-p", bound=False)]
    assert room.server.events() == 0
    await room.close()


async def test_news_wait_until_bindings_are_done_but_not_forever() -> None:
    room = Room()
    binding = asyncio.create_task(room.binder.bind(pod("slow"), "a"))
    await settle()
    await room.binder.bind(pod("quick"), "a")
    await settle()
    assert room.server.events() == 0
    await room.clock.advance(2.0)
    await settle()
    assert room.server.events() == 1
    room.server.open.set()
    await binding
    await settle()
    assert room.server.events() == 2
    await room.close()


async def test_a_refusal_that_persists_is_counted_while_the_pod_stays_as_it_is() -> None:
    room = Room()
    wanted = pod("p")
    await room.binder.report(wanted, "0/1 nodes are available: 1 Too many pods.")
    await settle()
    assert sorted(room.server.calls) == [
        ("PATCH", "/api/v1/namespaces/default/pods/p/status"),
        ("POST", "/api/v1/namespaces/default/events"),
    ]
    patch = next(body for body in room.server.bodies if "status" in body)
    wanted["status"] = patch["status"]
    await room.binder.report(wanted, "0/1 nodes are available: 1 Too many pods.")
    await settle()
    method, path = room.server.calls[2]
    assert (method, len(room.server.calls)) == ("PATCH", 3)
    assert path.startswith("/api/v1/namespaces/default/events/")
    await room.clock.advance(60)
    await room.binder.report(wanted, "0/2 nodes are available: 2 Too many pods.")
    await settle()
    assert len(room.server.calls) == 5
    (before,), (after,) = (body["status"]["conditions"] for body in room.server.bodies if "status" in body)
    assert after["lastTransitionTime"] == before["lastTransitionTime"]
    await room.close()


async def test_of_a_gang_the_same_refusal_is_told_once() -> None:
    room = Room()
    wanted = pod("p", schedulingGroup={"podGroupName": "g"})
    await room.binder.report(wanted, "pod group g waits for 1 more of 2 members")
    await settle()
    wanted["status"] = next(body for body in room.server.bodies if "status" in body)["status"]
    await room.binder.report(wanted, "pod group g waits for 1 more of 2 members")
    await settle()
    assert [method for method, _ in room.server.calls] == ["PATCH", "POST"]
    await room.close()


async def test_a_victim_is_told_why_and_ends_with_its_own_grace() -> None:
    room = Room()
    await room.binder.preempt(pod("p"), "a", [pod("x")], "0/1 nodes are available: 1 Too many pods.")
    await settle()
    assert ("DELETE", "/api/v1/namespaces/default/pods/x") in room.server.calls
    statuses = [body["status"] for body in room.server.bodies if "status" in body]
    assert statuses[0]["nominatedNodeName"] == "a"
    assert statuses[1]["conditions"][0]["type"] == "DisruptionTarget"
    (options,) = [body for body in room.server.bodies if body.get("kind") == "DeleteOptions"]
    assert options["preconditions"] == {"uid": "uid-x"}
    assert "gracePeriodSeconds" not in options
    assert "Preempted by pod uid-p on node a" in [body.get("message") for body in room.server.bodies]
    await room.close()


async def test_a_nomination_that_is_over_is_taken_back() -> None:
    room = Room()
    wanted = pod("p")
    wanted["status"]["nominatedNodeName"] = "a"
    await room.binder.report(wanted, "0/1 nodes are available: 1 Too many pods.")
    await settle()
    (status,) = [body["status"] for body in room.server.bodies if "status" in body]
    assert status["nominatedNodeName"] is None
    await room.close()


async def test_a_message_that_is_too_long_for_an_event_says_that_there_is_more() -> None:
    room = Room()
    message = "0/9 nodes are available: " + ", ".join(f"1 Insufficient example.com/resource-{n}" for n in range(99))
    await room.binder.report(pod("p"), message)
    await settle()
    (event,) = [body for body in room.server.bodies if body.get("kind") == "Event"]
    assert len(event["message"]) == 1024
    assert event["message"].endswith(" ...")
    assert (event["type"], event["reason"], event["action"]) == ("Warning", "FailedScheduling", "Scheduling")
    (patch,) = [body for body in room.server.bodies if "status" in body]
    assert patch["status"]["conditions"][0]["message"] == message
    await room.close()
