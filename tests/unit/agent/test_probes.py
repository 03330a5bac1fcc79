"""Probes and hooks: thresholds, and what each kind of action does."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from corral.agent.actions import Actions, Outcome, Target, port_number
from corral.agent.podstate.model import Condemned, ProbeSeen
from corral.agent.probes import ContainerProbes, Tally
from corral.base.clock import SystemClock
from corral.kinds.types import Obj
from corral.testing.clock import FakeClock
from corral.testing.fake_runtime import FakeRuntime


@pytest.mark.parametrize(
    ("outcomes", "verdicts"),
    [
        ("..", [None, True]),
        ("xxx", [None, None, False]),
        ("xx.xxx", [None, None, None, None, None, False]),
        (".x..", [None, None, None, True]),
    ],
)
def test_thresholds(outcomes: str, verdicts: list[bool | None]) -> None:
    tally = Tally(success_threshold=2, failure_threshold=3)
    assert [tally.note(outcome == ".") for outcome in outcomes] == verdicts


class Scripted(Actions):
    """Answers probes from a dictionary of what each kind says now."""

    def __init__(self, answers: dict[str, bool]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def perform(self, handler: Obj, target: Target, timeout: float, *, agent: str = "") -> Outcome:
        self.asked.append(handler["kind"])
        return Outcome(self.answers[handler["kind"]], "no")


class Story:
    def __init__(self, container: Obj, answers: dict[str, bool]) -> None:
        self.clock = FakeClock()
        self.actions = Scripted(answers)
        self.reports: list[ProbeSeen] = []
        self.doom: list[Condemned] = []
        self.told: list[str] = []
        self.probes = ContainerProbes(
            Target("id", {"name": "c", **container}, "127.0.0.1"),
            self.actions,
            self.clock,
            report=lambda _, seen: self.reports.append(seen),
            condemn=lambda _, doom: self.doom.append(doom),
            tell=lambda type_, reason, message: self.told.append(message),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Story"]:
        task = asyncio.create_task(self.probes.run())
        await self.clock.advance(0)
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def probe(kind: str, **fields: int) -> Obj:
    return {"kind": kind, "periodSeconds": 5, **fields}


async def test_readiness_comes_and_goes() -> None:
    story = Story({"readinessProbe": probe("ready", initialDelaySeconds=3, failureThreshold=2)}, {"ready": True})
    assert story.probes.seen == ProbeSeen(True, False)
    async with story.running():
        assert story.reports == []
        await story.clock.advance(3)
        assert story.reports == [ProbeSeen(True, True)]
        story.actions.answers["ready"] = False
        await story.clock.advance(5)
        assert len(story.reports) == 1
        await story.clock.advance(5)
        assert story.reports[-1] == ProbeSeen(True, False)
        assert story.told == ["Readiness probe failed: no"] * 2
        assert story.doom == []


async def test_liveness_dooms_with_its_own_grace() -> None:
    story = Story({"livenessProbe": probe("live", terminationGracePeriodSeconds=1)}, {"live": False})
    async with story.running():
        await story.clock.advance(10)
        assert story.doom == [Condemned("Container c failed liveness probe, will be restarted", 1)]


async def test_startup_comes_first() -> None:
    container = {"startupProbe": probe("start", failureThreshold=5), "livenessProbe": probe("live")}
    story = Story(container, {"start": False, "live": True})
    async with story.running():
        await story.clock.advance(10)
        assert set(story.actions.asked) == {"start"}
        story.actions.answers["start"] = True
        await story.clock.advance(5)
        assert story.reports == [ProbeSeen(True, True)]
        await story.clock.advance(5)
        assert "live" in story.actions.asked


async def test_startup_that_never_comes_dooms() -> None:
    story = Story({"startupProbe": probe("start")}, {"start": False})
    async with story.running():
        await story.clock.advance(30)
        assert story.doom == [Condemned("Container c failed startup probe, will be restarted", None)]
        assert story.reports == []


@pytest.mark.parametrize(("port", "number"), [(80, 80), ("81", 81), ("web", 8080)])
def test_ports(port: object, number: int) -> None:
    assert port_number(port, {"ports": [{"name": "web", "containerPort": 8080}]}) == number


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def answering(status: int) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno".encode())
        await writer.drain()
        writer.close()

    return serve


@pytest.fixture
async def actions(runtime: FakeRuntime) -> AsyncIterator[Actions]:
    found = Actions(runtime, SystemClock())
    yield found
    await found.close()


TARGET = Target("id", {"name": "c"}, "127.0.0.1")


@pytest.mark.parametrize(("status", "ok"), [(200, True), (206, True), (399, True), (400, False), (500, False)])
async def test_http(actions: Actions, status: int, ok: bool) -> None:
    async with served(answering(status)) as port:
        outcome = await actions.perform({"httpGet": {"port": port, "path": "/x"}}, TARGET, 5)
    assert outcome == Outcome(ok, "" if ok else f"HTTP probe failed with statuscode: {status}")


async def test_tcp(actions: Actions) -> None:
    async with served(answering(200)) as port:
        assert (await actions.perform({"tcpSocket": {"port": port}}, TARGET, 5)).ok
    refused = await actions.perform({"tcpSocket": {"port": port}}, TARGET, 5)
    assert refused == Outcome(False, f"dial tcp {TARGET.address}:{port}: connection refused")
    unheard = await actions.perform({"httpGet": {"port": port, "path": "/ready"}}, TARGET, 5)
    assert unheard == Outcome(False, f'Get "http://{TARGET.address}:{port}/ready": connection refused')


def health(state: int | None) -> Serve:
    """A gRPC server that knows one answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(24)
        writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        while True:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == 0:
                break
        body = b"" if state is None else b"\x08" + bytes([state])
        data = b"\x00" + struct.pack(">I", len(body)) + body
        if state is not None:
            writer.write(struct.pack(">I", len(data))[1:] + b"\x00\x00\x00\x00\x00\x01" + data)
        writer.write(b"\x00\x00\x00\x01\x05\x00\x00\x00\x01")
        await writer.drain()
        writer.close()

    return serve


@pytest.mark.parametrize(
    ("state", "ok", "said"),
    [(1, True, ""), (2, False, "NOT_SERVING"), (None, False, "does it implement")],
)
async def test_grpc(actions: Actions, state: int | None, ok: bool, said: str) -> None:
    async with served(health(state)) as port:
        outcome = await actions.perform({"grpc": {"port": port, "service": "x"}}, TARGET, 5)
    assert outcome.ok == ok
    assert said in outcome.message


async def test_what_is_no_grpc_fails(actions: Actions) -> None:
    async with served(answering(200)) as port:
        assert not (await actions.perform({"grpc": {"port": port}}, TARGET, 5)).ok


async def test_silence_times_out(actions: Actions) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with served(silent) as port:
        outcome = await actions.perform({"httpGet": {"port": port}}, TARGET, 0.05)
    assert "timed out" in outcome.message


@pytest.mark.parametrize(("command", "ok"), [(["true"], True), (["false"], False)])
async def test_exec(rig: Any, command: list[str], ok: bool) -> None:
    rig.add_pod()
    await rig.settled()
    worker = rig.agent.worker("default", "web")
    target = Target(worker.container("main").id, {"name": "main"}, "127.0.0.1")
    found = Actions(rig.runtime, SystemClock())
    assert (await found.perform({"exec": {"command": command}}, target, 5)).ok == ok
    missing = await found.perform({"exec": {"command": ["nonesuch"]}}, target, 5)
    assert missing.broken
