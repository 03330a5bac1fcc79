"""Machines fall silent: what the controllers do about it, through a real API, on a clock that the test moves."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from corral.apiserver.auth.api import User
from corral.apiserver.auth.authorizer import CellAuthorizer
from corral.apiserver.auth.pki import MASTERS
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.base.clock import rfc3339_micro
from corral.client.client import Client
from corral.controllers.all import user_of
from corral.controllers.nodelifecycle.controller import NODE_LEASES, NodeLifecycleController
from corral.controllers.tainteviction.controller import TaintEvictionController
from corral.kinds import conditions
from corral.kinds.health import DEFAULT, FENCED, PROMISE, SILENCE, UNREACHABLE, annotation, read_terms
from corral.kinds.registry import Registry
from corral.kinds.resources import EVENTS, LEASES, NODES, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.machinery.runner import Runner
from corral.store.memory import MemoryStore
from corral.store.protocol import Conflict, Entry, Full
from corral.store.state import Write
from corral.testing.clock import FakeClock, settle

READY = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "fine"}


class SmallStore(MemoryStore):
    """One that is full when the test says so."""

    full = False

    async def _write(self, write: Write) -> Entry | Conflict:
        if self.full:
            self.refused = self._clock.monotonic()
            raise Full("cannot write: no space left", "make room")
        return await super()._write(write)


class Fleet:
    """Machines that renew their leases while they are in `alive`, and controllers on a clock of the test's."""

    def __init__(self, client: Client, clock: FakeClock, store: SmallStore) -> None:
        self.client, self.clock, self.store = client, clock, store
        self.alive: set[str] = set()
        self.promises: str | None = "7"

    async def machine(self, name: str) -> None:
        await self.client.create(NODES, {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}})
        lease = {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": name}}
        await self.client.create(LEASES, {**lease, "metadata": {"name": name, "namespace": NODE_LEASES}})
        await self.report(name)
        self.alive.add(name)

    async def report(self, name: str) -> None:
        await self.client.patch(NODES, name, {"status": {"conditions": [READY]}}, subresource="status")

    async def pod(self, name: str, machine: str, seconds: int | None = 3) -> None:
        bears: Obj = {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute"}
        if seconds is not None:
            bears["tolerationSeconds"] = seconds
        spec = {"nodeName": machine, "containers": [{"name": "c", "image": "v1"}], "tolerations": [bears]}
        made = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default"}, "spec": spec}
        await self.client.create(PODS, made)
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await self.client.patch(PODS, name, {"status": status}, "default", subresource="status")

    async def run(self, seconds: float) -> None:
        """Let time pass; whoever lives renews each second, and reports when it was missed."""
        for tick in range(round(seconds * 5)):
            if tick % 5 == 4:
                for name in sorted(self.alive):
                    await self.renew(name)
            await self.clock.advance(0.2)
            await settle(200)

    async def renew(self, name: str) -> None:
        with contextlib.suppress(StatusError) if self.store.full else contextlib.nullcontext():
            await self._renew(name)

    async def _renew(self, name: str) -> None:
        now = rfc3339_micro(self.clock.now())
        spec = {"holderIdentity": name, "leaseDurationSeconds": 4, "renewTime": now}
        patch: Obj = {"metadata": {"annotations": {PROMISE: self.promises}}, "spec": spec}
        answer = await self.client.patch(LEASES, name, patch, NODE_LEASES)
        if annotation(answer, SILENCE):
            await self.report(name)

    async def silence(self, name: str) -> str:
        return annotation(await self.client.get(LEASES, name, NODE_LEASES), SILENCE)

    async def ready(self, name: str) -> str:
        node = await self.client.get(NODES, name)
        return str((conditions.get(node, "Ready") or {})["status"])

    async def serves(self, pod: str) -> bool:
        return conditions.is_true(await self.client.get(PODS, pod, "default"), "Ready")

    async def pods(self) -> dict[str, bool]:
        """Names, and whether they are being deleted."""
        listed = await self.client.list(PODS, "default")
        return {pod["metadata"]["name"]: "deletionTimestamp" in pod["metadata"] for pod in listed["items"]}


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    clock, rng = FakeClock(), random.Random(1)
    store = SmallStore(clock=clock)
    authorizer = CellAuthorizer(store)
    await authorizer.start()
    server = ApiServer(store, Registry.builtin(), authorizer, clock=clock, rng=rng, tokens=None, node_dialer=None)
    await server.start()

    def client(user: str, *groups: str) -> Client:
        return Client(InProcessTransport(server, User(user, groups)))

    admin = client("admin", MASTERS)
    from corral.apiserver.auth import bootstrap

    for obj in sorted(bootstrap.objects(), key=lambda obj: bool(obj["kind"] != "Namespace")):
        group, _, version = obj["apiVersion"].rpartition("/")
        kind = server.core.registry.by_kind(group, version, obj["kind"])
        assert kind is not None
        await admin.create(kind.resource, obj)
    account = {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default", "namespace": "default"}}
    await admin.create(server.core.registry.by_kind("", "v1", "ServiceAccount").resource, account)  # type: ignore[union-attr]
    runner = Runner(
        client("system:kube-controller-manager", "system:authenticated"),
        [NodeLifecycleController(DEFAULT, refused=lambda: store.refused), TaintEvictionController()],
        clock,
        rng=rng,
        client_for=lambda name: client(user_of(name), "system:serviceaccounts", "system:authenticated"),
    )
    made = Fleet(admin, clock, store)
    for name in ("a", "b", "c"):
        await made.machine(name)
    task = asyncio.create_task(runner.run())
    await settle(300)
    await made.run(3)
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await server.stop()
        await authorizer.stop()
        await store.close()


async def test_machines_are_told_the_terms_of_the_cell(fleet: Fleet) -> None:
    lease = await fleet.client.get(LEASES, "a", NODE_LEASES)
    assert read_terms(lease) == DEFAULT.terms(3, sole=True)


async def test_pods_of_a_dead_machine_are_gone_within_ten_seconds(fleet: Fleet) -> None:
    await fleet.pod("moves", "a")
    await fleet.pod("stays", "a", None)
    fleet.alive.discard("a")
    await fleet.run(3)
    assert (await fleet.ready("a"), await fleet.pods()) == ("True", {"moves": False, "stays": False})
    assert [await fleet.serves(pod) for pod in ("moves", "stays")] == [True, True]
    await fleet.run(2)
    assert [await fleet.serves(pod) for pod in ("moves", "stays")] == [False, False]
    assert await fleet.ready("a") == "Unknown"
    assert await fleet.silence("a") == "suspected"
    await fleet.run(1.4)
    assert await fleet.silence("a") == "suspected", "nothing may run elsewhere before the promise is over"
    assert "moves" in await fleet.pods()
    await fleet.run(1.6)
    assert await fleet.silence("a") == FENCED
    assert await fleet.pods() == {"stays": False}
    assert [await fleet.ready(name) for name in "bc"] == ["True", "True"]


async def test_a_full_disk_moves_no_pods_and_a_machine_that_died_meanwhile_is_found(fleet: Fleet) -> None:
    for name in "abc":
        await fleet.pod(f"on-{name}", name)
    fleet.store.full = True
    await fleet.run(20)
    fleet.alive.discard("a")
    await fleet.run(3)
    fleet.store.full = False
    await fleet.run(1)
    assert [await fleet.silence(name) for name in "abc"] == ["", "", ""]
    await fleet.run(6)
    assert await fleet.silence("a") == "suspected", "it may have counted from the last refusal"
    await fleet.run(3)
    assert await fleet.silence("a") == FENCED
    assert await fleet.pods() == {"on-b": False, "on-c": False}


async def test_a_pod_that_is_deleted_later_goes_from_a_fenced_machine(fleet: Fleet) -> None:
    await fleet.pod("moves", "a", 3600)
    fleet.alive.discard("a")
    await fleet.run(10)
    assert await fleet.pods() == {"moves": False}
    await fleet.client.delete(PODS, "moves", "default")
    await fleet.run(1)
    assert await fleet.pods() == {}


async def test_without_a_promise_nothing_is_taken_for_fenced(fleet: Fleet) -> None:
    fleet.promises = None
    await fleet.pod("moves", "a")
    await fleet.run(2)
    fleet.alive.discard("a")
    await fleet.run(60)
    assert await fleet.silence("a") == "suspected"
    assert await fleet.pods() == {"moves": True}, "evicted, and waited for, as in Kubernetes"


async def test_a_machine_that_speaks_again_keeps_its_pods(fleet: Fleet) -> None:
    await fleet.pod("moves", "a")
    fleet.alive.discard("a")
    await fleet.run(5)
    assert await fleet.ready("a") == "Unknown"
    fleet.alive.add("a")
    await fleet.run(10)
    assert (await fleet.ready("a"), await fleet.silence("a")) == ("True", "")
    assert await fleet.pods() == {"moves": False}
    assert not (await fleet.client.get(NODES, "a"))["spec"].get("taints")


@pytest.mark.parametrize("split", [{"a", "b", "c"}, {"a", "b", "c", "d"}])
async def test_a_network_split_drains_nobody(fleet: Fleet, split: set[str]) -> None:
    for name in ("d", "e", "f", "g"):
        await fleet.machine(name)
    await fleet.run(3)
    for name in sorted(split):
        await fleet.pod(f"on-{name}", name)
    fleet.alive -= split
    await fleet.run(30)
    assert [await fleet.ready(name) for name in sorted(split)] == ["Unknown"] * len(split)
    assert set((await fleet.pods()).values()) == {False}
    assert await fleet.serves("on-c"), "for all that is known it is the server that is cut off"
    events: list[Any] = (await fleet.client.list(EVENTS, "default"))["items"]
    assert any(event["reason"] == "EvictionHeldBack" for event in events)
    fleet.alive.add("a")
    fleet.alive.add("b")
    await fleet.run(20)
    left = await fleet.pods()
    assert left["on-a"] is False
    assert "on-c" not in left, "one or two silent ones are no split"


async def test_a_server_that_slept_accuses_nobody(fleet: Fleet) -> None:
    await fleet.pod("moves", "a")
    fleet.clock._elapsed += 60.0  # no timer ran meanwhile: the whole process was stopped
    await settle(300)
    await fleet.run(5)
    assert [await fleet.ready(name) for name in "abc"] == ["True"] * 3
    assert await fleet.pods() == {"moves": False}
    events: list[Any] = (await fleet.client.list(EVENTS, "default"))["items"]
    assert not [event for event in events if event["reason"] == "NodeNotReady"]
