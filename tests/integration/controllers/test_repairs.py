"""Repairs through the real API: a machine's whole story, budgets, people's own cordons, the share, quarantine."""

import base64
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.integration.controllers.conftest import Cell

from corral.base.clock import rfc3339
from corral.client.api import MERGE_PATCH, STRATEGIC_MERGE_PATCH
from corral.kinds import conditions
from corral.kinds.repairs import QUARANTINE_TAINT, REPAIR_POLICIES, REPAIR_TAINT, REPAIRS
from corral.kinds.resources import DEPLOYMENTS, NODES, POD_DISRUPTION_BUDGETS, PODS, SECRETS
from corral.kinds.status import StatusError
from corral.kinds.taints import read_taints
from corral.kinds.types import Obj

QUICK: Mapping[str, Any] = {"probationSeconds": 0, "drainTimeoutSeconds": 10}


def rule(condition: str, *remedies: str, status: str = "True", drain: bool = False, **more: Any) -> Obj:
    planned = [{"type": remedy, "timeoutSeconds": 5, "settleSeconds": 0} for remedy in remedies]
    found = {"name": condition.lower(), "condition": condition, "status": status, "timeoutSeconds": 0, "drain": drain}
    return {**found, "remedies": planned, **more}


async def follow(cell: Cell, *rules: Obj, **more: Any) -> None:
    spec = {**QUICK, "rules": list(rules), **more}
    policy = {
        "apiVersion": REPAIR_POLICIES.api_version,
        "kind": "RepairPolicy",
        "metadata": {"name": "default"},
        "spec": spec,
    }
    await cell.client.create(REPAIR_POLICIES, policy)
    await cell.until(REPAIR_POLICIES, "default", lambda obj: conditions.is_true(obj, "Accepted"), "")


def is_followed(policy: Obj, generation: int) -> bool:
    accepted = conditions.get(policy, "Accepted") or {}
    return bool(accepted.get("status") == "True" and accepted.get("observedGeneration") == generation)


async def say(cell: Cell, machine: str, condition: str, status: str) -> None:
    """A machine says how it is, as its agent does."""
    said = {"type": condition, "status": status, "reason": "Test", "message": f"{condition} it is"}
    said["lastTransitionTime"] = said["lastHeartbeatTime"] = rfc3339(cell.server.core.now())
    patch = {"status": {"conditions": [said]}}
    await cell.client.patch(NODES, machine, patch, kind=STRATEGIC_MERGE_PATCH, subresource="status")


async def machine(cell: Cell, name: str, **status: str) -> None:
    with_status = {"Ready": "True", **status}
    if name != "m1":
        await cell.client.create(NODES, {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}})
    for condition, said in with_status.items():
        await say(cell, name, condition, said)


async def the_repair(cell: Cell, phase: str, machine: str = "m1") -> Obj:
    def found(items: list[Obj]) -> list[Obj]:
        mine = [one for one in items if one["spec"]["nodeName"] == machine]
        return [one for one in mine if (one.get("status") or {}).get("phase") == phase]

    return found(await cell.until_list(REPAIRS, found, ""))[-1]


async def answer(cell: Cell, repair: Obj, state: str, message: str) -> None:
    """What the agent of the machine says of the last attempt."""
    last = len(repair["status"]["attempts"]) - 1
    said = {"attempt": last, "state": state, "at": rfc3339(cell.server.core.now()), "message": message}
    name = repair["metadata"]["name"]
    await cell.client.patch(REPAIRS, name, {"status": {"answer": said}}, kind=MERGE_PATCH, subresource="status")


async def taints(cell: Cell, name: str) -> dict[str, str]:
    return {taint.key: taint.value for taint in read_taints(await cell.client.get(NODES, name))}


def phases(repairs: list[Obj]) -> list[str]:
    return sorted((one.get("status") or {}).get("phase", "") for one in repairs)


def life(repair: Obj) -> list[str]:
    return [one["phase"] for one in repair["status"]["transitions"]]


async def until_attempt(cell: Cell, repair: Obj, number: int, state: str) -> Obj:
    def there(obj: Obj) -> bool:
        attempts = obj["status"].get("attempts") or []
        return len(attempts) > number and attempts[number]["state"] == state

    return await cell.until(REPAIRS, repair["metadata"]["name"], there, "")


class Hook:
    """A webhook that a test listens on."""

    def __init__(self) -> None:
        self.got: list[Obj] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.got.append(await request.json())
        return web.Response()


@pytest.fixture
async def hook(cell: Cell) -> AsyncIterator[Hook]:
    made, app = Hook(), web.Application()
    app.router.add_post("/secret-path", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    data = {"ops": base64.b64encode(f"# ours\nhttp://{host}:{port}/secret-path\n".encode()).decode()}
    metadata = {"name": "repair-notifications", "namespace": "kube-system"}
    await cell.client.create(SECRETS, {"kind": "Secret", "apiVersion": "v1", "metadata": metadata, "data": data})
    yield made
    await runner.cleanup()


async def test_a_machine_is_suspected_emptied_repaired_watched_and_takes_pods_again(cell: Cell) -> None:
    await machine(cell, "m1")
    await follow(cell, rule("DiskErrors", "RestartRuntime", "Prune", drain=True))
    await machine(cell, "m2")
    await deploy(cell, 2)
    cell.kubelet.machine = "m2"
    await say(cell, "m1", "DiskErrors", "True")

    repair = await the_repair(cell, "Repairing")
    assert REPAIR_TAINT in await taints(cell, "m1")
    repair = await until_attempt(cell, repair, 0, "Requested")
    await answer(cell, repair, "Failed", "no such thing")
    repair = await until_attempt(cell, repair, 1, "Requested")
    await say(cell, "m1", "DiskErrors", "False")
    await answer(cell, repair, "Succeeded", "freed 3 GB")

    repair = await the_repair(cell, "Healthy")
    assert life(repair) == ["Suspect", "Cordoned", "Drained", "Repairing", "Probation", "Healthy"]
    tried = [(one["remedy"], one["state"], one["message"]) for one in repair["status"]["attempts"]]
    assert tried == [("RestartRuntime", "Failed", "no such thing"), ("Prune", "Succeeded", "freed 3 GB")]
    await cell.until(NODES, "m1", lambda node: not read_taints(node), "")
    moved = repair["status"]["moved"]
    assert len(moved) == 2
    assert {one["toMachine"] for one in moved} == {"m2"}
    assert len({one["toPod"] for one in moved}) == 2
    assert all(one["owner"].startswith("ReplicaSet/web-") for one in moved)
    assert "notices" not in repair["status"]


async def deploy(cell: Cell, replicas: int) -> None:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "host"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "web", "namespace": "default"}
    await cell.client.create(
        DEPLOYMENTS, {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": metadata, "spec": spec}
    )
    await cell.until(DEPLOYMENTS, "web", lambda one: one.get("status", {}).get("readyReplicas") == replicas)


async def test_a_budget_keeps_pods_and_what_would_end_them_is_not_done(cell: Cell, hook: Hook) -> None:
    await machine(cell, "m1")
    await machine(cell, "m2")
    await follow(cell, rule("DiskErrors", "Reboot", drain=True), drainTimeoutSeconds=1)
    await deploy(cell, 2)
    budget = {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}
    metadata = {"name": "web", "namespace": "default"}
    await cell.client.create(
        POD_DISRUPTION_BUDGETS,
        {"kind": "PodDisruptionBudget", "apiVersion": "policy/v1", "metadata": metadata, "spec": budget},
    )
    await cell.until(POD_DISRUPTION_BUDGETS, "web", lambda one: (one.get("status") or {}).get("currentHealthy") == 2)
    before = {pod["metadata"]["uid"] for pod in (await cell.client.list(PODS, "default"))["items"]}
    await say(cell, "m1", "DiskErrors", "True")

    repair = await the_repair(cell, "Repairing")
    told = await cell.until(REPAIRS, repair["metadata"]["name"], lambda one: one["status"].get("told"), "")
    assert {pod["metadata"]["uid"] for pod in (await cell.client.list(PODS, "default"))["items"]} == before
    assert [(one["remedy"], one["state"]) for one in told["status"]["attempts"]] == [("Reboot", "Skipped")]
    assert "2 pods may not leave" in told["status"]["attempts"][0]["message"]
    (said,) = hook.got
    assert said["title"] == "Corral: machine m1 needs a person"
    assert "DiskErrors=True" in said["message"]
    assert "still there" in said["message"]
    assert said["repair"]["machine"] == "m1"
    assert [(one["target"], one["outcome"]) for one in told["status"]["told"]] == [("ops", "Sent")]
    assert "secret-path" not in str(told), "addresses are secrets"

    # Whoever mends it is not asked anything: the machine comes back by itself.
    await say(cell, "m1", "DiskErrors", "False")
    await the_repair(cell, "Healthy")
    assert len(hook.got) == 1


async def test_a_machine_that_a_person_has_cordoned_is_left_to_that_person(cell: Cell) -> None:
    await machine(cell, "m1")
    await follow(cell, rule("DiskErrors", "Prune", "RestartAgent"))
    await cell.client.patch(NODES, "m1", {"spec": {"unschedulable": True}})
    await say(cell, "m1", "DiskErrors", "True")
    name = (await the_repair(cell, "Suspect"))["metadata"]["name"]
    await cell.until(REPAIRS, name, lambda one: "a person has cordoned" in one["status"]["message"], "")
    assert REPAIR_TAINT not in await taints(cell, "m1")

    await cell.client.patch(NODES, "m1", {"spec": {"unschedulable": None}})
    repair = await until_attempt(cell, await the_repair(cell, "Repairing"), 0, "Requested")
    await cell.client.patch(NODES, "m1", {"spec": {"unschedulable": True}})
    await answer(cell, repair, "Failed", "")
    repair = await cell.until(REPAIRS, name, lambda one: "a person has cordoned" in one["status"]["message"], "")
    assert len(repair["status"]["attempts"]) == 1, "nothing more is begun"
    await say(cell, "m1", "DiskErrors", "False")
    await the_repair(cell, "Healthy")
    node = await cell.until(NODES, "m1", lambda one: REPAIR_TAINT not in {taint.key for taint in read_taints(one)}, "")
    assert node["spec"]["unschedulable"] is True, "a person's cordon is a person's"


async def test_the_servers_command_is_run_once_for_a_machine_that_does_not_answer(cell: Cell, tmp_path: Path) -> None:
    await machine(cell, "m1")
    for name in ("m2", "m3"):
        await machine(cell, name)
    log = tmp_path / "switched"
    cell.remote_command = ["sh", "-c", f"echo {{machine}} >> {log}; echo done"]
    await follow(cell, rule("Ready", "RestartAgent", "Remote", status="Unknown", drain=True))
    await say(cell, "m1", "Ready", "Unknown")
    repair = await until_attempt(cell, await the_repair(cell, "Repairing"), 1, "Succeeded")
    tried = [(one["remedy"], one["state"], one["message"]) for one in repair["status"]["attempts"]]
    assert tried == [("RestartAgent", "Skipped", "the agent does not answer"), ("Remote", "Succeeded", "done")]
    await cell.until(REPAIRS, repair["metadata"]["name"], lambda one: one["status"].get("notices"), "")
    assert log.read_text() == "m1\n"
    await say(cell, "m1", "Ready", "True")
    await the_repair(cell, "Healthy")


async def test_rules_that_cannot_be_followed_say_so_and_corrals_own_count(cell: Cell) -> None:
    spec = {"rules": [{"name": "a", "condition": "Odd", "remedies": [{"type": "Reboot"}]}]}
    policy = {
        "apiVersion": REPAIR_POLICIES.api_version,
        "kind": "RepairPolicy",
        "metadata": {"name": "default"},
        "spec": spec,
    }
    await cell.client.create(REPAIR_POLICIES, policy)
    found = await cell.until(REPAIR_POLICIES, "default", lambda one: conditions.get(one, "Accepted"), "")
    said = conditions.get(found, "Accepted")
    assert said is not None
    assert said["status"] == "False"
    assert "spec.rules[0].drain: must be true" in said["message"]
    for bad, field in (
        ({"type": "Pray"}, "remedies[0].type"),
        ({"type": "Prune", "timeoutSeconds": 0}, "timeoutSeconds"),
    ):
        spec = {"rules": [{"name": "a", "condition": "Odd", "remedies": [bad]}]}
        with pytest.raises(StatusError) as error:
            await cell.client.patch(REPAIR_POLICIES, "default", {"spec": spec})
        assert error.value.code == 422
        assert field in error.value.message


async def test_no_more_than_the_share_is_in_repair_at_once(cell: Cell) -> None:
    await machine(cell, "m1")
    for name in ("m2", "m3", "m4"):
        await machine(cell, name)
    await follow(cell, rule("DiskErrors", "Prune"), maxInRepair=2)
    for name in ("m1", "m2", "m3", "m4"):
        await say(cell, name, "DiskErrors", "True")

    def settled(items: list[Obj]) -> bool:
        held = [one for one in items if "no more may be" in ((one.get("status") or {}).get("message") or "")]
        return phases(items) == ["Repairing", "Repairing", "Suspect", "Suspect"] and len(held) == 2

    repairs = await cell.until_list(REPAIRS, settled, "")
    first = next(one for one in repairs if one["status"]["phase"] == "Repairing")
    await say(cell, first["spec"]["nodeName"], "DiskErrors", "False")
    first = await until_attempt(cell, first, 0, "Requested")
    await answer(cell, first, "Succeeded", "")
    after = ["Healthy", "Repairing", "Repairing", "Suspect"]
    await cell.until_list(REPAIRS, lambda items: phases(items) == after, "")


async def test_repeated_trouble_ends_in_quarantine_until_a_person_lets_the_machine_back(cell: Cell) -> None:
    await machine(cell, "m1")
    await machine(cell, "m2")
    await follow(cell, rule("DiskErrors", "Prune"), quarantine={"repairs": 1, "windowSeconds": 3600})
    await say(cell, "m1", "DiskErrors", "True")
    repair = await until_attempt(cell, await the_repair(cell, "Repairing"), 0, "Requested")
    await say(cell, "m1", "DiskErrors", "False")
    await answer(cell, repair, "Succeeded", "")
    await the_repair(cell, "Healthy")
    await say(cell, "m1", "DiskErrors", "True")
    repair = await the_repair(cell, "Retired")
    assert repair["status"]["quarantine"] is True
    assert [notice["reason"] for notice in repair["status"]["notices"]] == ["Quarantined"]
    node = await cell.until(NODES, "m1", lambda one: conditions.is_true(one, "Quarantined"), "")
    assert {taint.key for taint in read_taints(node)} == {QUARANTINE_TAINT}
    # Its agent writes its own conditions, and leaves this one.
    await say(cell, "m1", "DiskErrors", "False")
    assert conditions.is_true(await cell.client.get(NODES, "m1"), "Quarantined")

    await cell.client.patch(REPAIRS, repair["metadata"]["name"], {"spec": {"released": True}})
    await cell.until(NODES, "m1", lambda one: not conditions.is_true(one, "Quarantined"), "")
    await cell.until(NODES, "m1", lambda one: not read_taints(one), "")


async def test_what_needs_approval_waits_and_a_repair_that_is_deleted_lets_go_of_its_machine(cell: Cell) -> None:
    await machine(cell, "m1")
    await machine(cell, "m2")
    await follow(cell, rule("DiskErrors", "Prune"), approvals=["Prune"])
    await say(cell, "m1", "DiskErrors", "True")
    repair = await until_attempt(cell, await the_repair(cell, "Repairing"), 0, "Waiting")
    name = repair["metadata"]["name"]
    await cell.until(REPAIRS, name, lambda one: one["status"].get("notices"), "")
    await cell.client.patch(REPAIRS, name, {"spec": {"approved": True}})
    await until_attempt(cell, repair, 0, "Requested")
    assert REPAIR_TAINT in await taints(cell, "m1")
    off = await cell.client.patch(REPAIR_POLICIES, "default", {"spec": {"enabled": False}})
    await cell.until(REPAIR_POLICIES, "default", lambda one: is_followed(one, off["metadata"]["generation"]), "")
    await cell.client.delete(REPAIRS, name)
    await cell.until(NODES, "m1", lambda one: not read_taints(one), "")
    assert (await cell.client.list(REPAIRS))["items"] == []


async def test_a_server_that_comes_back_goes_on_where_the_last_one_ended(cell: Cell) -> None:
    await machine(cell, "m1")
    await machine(cell, "m2")
    await follow(cell, rule("DiskErrors", "RestartRuntime", "Prune"))
    await say(cell, "m1", "DiskErrors", "True")
    repair = await until_attempt(cell, await the_repair(cell, "Repairing"), 0, "Requested")
    await cell.stop_controllers()
    await answer(cell, repair, "Failed", "nothing to restart")
    await cell.start_controllers()
    repair = await until_attempt(cell, repair, 1, "Requested")
    await cell.stop_controllers()
    await answer(cell, repair, "Succeeded", "")
    await say(cell, "m1", "DiskErrors", "False")
    await cell.start_controllers()
    repair = await the_repair(cell, "Healthy")
    assert [(one["remedy"], one["state"]) for one in repair["status"]["attempts"]] == [
        ("RestartRuntime", "Failed"),
        ("Prune", "Succeeded"),
    ]
    assert len((await cell.client.list(REPAIRS))["items"]) == 1
