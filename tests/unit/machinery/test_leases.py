"""Leader election: never two leaders, and a new one when the old falls silent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from corral.client.api import ApiRequest, ApiResponse, WatchEvent
from corral.client.client import Client
from corral.kinds.status import StatusError, already_exists, modified, not_found
from corral.kinds.types import Obj
from corral.machinery.leases import CAREFUL, QUICK, LeaderElection, Seen, Timing, decide
from corral.testing.clock import FakeClock, settle


class OneLease:
    """An API with one Lease; `cut` holds transports that cannot reach it."""

    def __init__(self) -> None:
        self.lease: Obj | None = None
        self.revision = 0

    def put(self, body: Obj) -> Obj:
        self.revision += 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.revision)}}
        return self.lease

    def perform(self, request: ApiRequest) -> Obj:
        if request.method == "GET":
            if self.lease is None:
                raise not_found("coordination.k8s.io", "leases", "l")
            return self.lease
        body: Obj = orjson.loads(request.body)
        if request.method == "POST":
            if self.lease is not None:
                raise already_exists("coordination.k8s.io", "leases", "l")
        elif self.lease is None or body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise modified("coordination.k8s.io", "leases", "l")
        return self.put(body)


class Line:
    """A transport to it that can be cut."""

    def __init__(self, api: OneLease) -> None:
        self.api = api
        self.is_cut = False

    async def call(self, request: ApiRequest) -> ApiResponse:
        if self.is_cut:
            raise ConnectionError("cut")
        try:
            return ApiResponse(200, orjson.dumps(self.api.perform(request)))
        except StatusError as error:
            return ApiResponse(error.code, orjson.dumps(error.status()))

    @asynccontextmanager
    async def watch(self, request: ApiRequest) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        raise NotImplementedError
        yield

    async def close(self) -> None:
        pass


class Candidate:
    def __init__(self, api: OneLease, name: str, clock: FakeClock, timing: Timing = CAREFUL) -> None:
        self.line = Line(api)
        self.election = LeaderElection(Client(self.line), "l", name, clock, timing=timing)
        self.leads = False
        self.task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        while True:
            await self.election.acquire()
            self.leads = True
            try:
                await self.election.hold()
            finally:
                self.leads = False

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_one_leads_and_hands_over_at_once_when_it_ends() -> None:
    api, clock = OneLease(), FakeClock()
    one, two = Candidate(api, "one", clock), Candidate(api, "two", clock)
    await settle()
    assert (one.leads, two.leads) == (True, False)
    await clock.advance(60)
    assert (one.leads, two.leads) == (True, False)
    await one.stop()
    await clock.advance(CAREFUL.retry)
    assert two.leads
    assert api.lease is not None
    assert api.lease["spec"]["leaseTransitions"] == 1
    await two.stop()


async def test_a_leader_that_is_cut_off_stops_before_another_starts() -> None:
    api, clock, timing = OneLease(), FakeClock(), CAREFUL
    one, two = Candidate(api, "one", clock, timing), Candidate(api, "two", clock, timing)
    await settle()
    one.line.is_cut = True
    stopped = started = 0.0
    for _ in range(160):
        await clock.advance(timing.retry / 2)
        assert not (one.leads and two.leads)
        stopped = stopped or (0.0 if one.leads else clock.monotonic())
        started = started or (clock.monotonic() if two.leads else 0.0)
    assert 0 < stopped <= timing.deadline + timing.retry
    assert stopped < started <= timing.duration + 2 * timing.retry
    await one.stop()
    await two.stop()


async def test_a_fenced_leader_that_was_slow_goes_on_unless_another_took_its_place() -> None:
    api, clock = OneLease(), FakeClock()
    one = Candidate(api, "one", clock, QUICK)
    await settle()
    one.line.is_cut = True
    await clock.advance(5 * QUICK.duration)
    one.line.is_cut = False
    await clock.advance(QUICK.retry)
    assert one.leads, "nobody else was there"
    one.line.is_cut = True
    two = Candidate(api, "two", clock, QUICK)
    for _ in range(8):
        await clock.advance(QUICK.retry)
    assert two.leads
    one.line.is_cut = False
    await clock.advance(QUICK.retry)
    assert (one.leads, two.leads) == (False, True)
    await one.stop()
    await two.stop()


def test_a_lease_is_believed_for_its_duration() -> None:
    lease: Obj = {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}
    assert decide(Seen(None, 0), "b", 0) == "create"
    assert decide(Seen(lease, 0), "a", 100) == "renew"
    assert decide(Seen(lease, 0), "b", 14.9) == "wait"
    assert decide(Seen(lease, 0), "b", 15) == "take"
