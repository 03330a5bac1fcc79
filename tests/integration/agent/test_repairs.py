"""An agent performs what Repairs of its machine ask for, and may write nothing but its answer."""

from typing import Any

import pytest

from corral.agent.runtime.api import RuntimeFailure
from corral.client.api import MERGE_PATCH
from corral.client.client import Client
from corral.kinds.repairs import REPAIRS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

NOW = "2026-01-01T00:00:00Z"


def attempt(remedy: str, **more: Any) -> Obj:
    return {"remedy": remedy, "performer": "Agent", "state": "Requested", "at": NOW, "timeoutSeconds": 5, **more}


async def ask(cell: Any, *attempts: Obj, machine: str = "m1", name: str = "m1-abc", **status: Any) -> Obj:
    made: Obj = {
        "apiVersion": REPAIRS.api_version,
        "kind": "Repair",
        "metadata": {"name": name},
        "spec": {"nodeName": machine, "nodeUID": "u"},
    }
    made = await cell.admin.create(REPAIRS, made)
    said = {"phase": "Repairing", "attempts": list(attempts), **status}
    found: Obj = await cell.admin.update(REPAIRS, {**made, "status": said}, "status")
    return found


async def answered(cell: Any, name: str = "m1-abc") -> Obj:
    def done(repair: Obj) -> bool:
        mine = repair["metadata"]["name"] == name
        answer = repair.get("status", {}).get("answer") or {}
        return bool(mine and answer.get("state", "Running") != "Running")

    repair = await cell.first(REPAIRS, "", done)
    answer: Obj = repair["status"]["answer"]
    return answer


async def test_the_runtime_is_made_to_answer(cell: Any) -> None:
    await ask(cell, attempt("RestartRuntime"))
    answer = await answered(cell)
    assert (answer["attempt"], answer["state"], answer["message"]) == (0, "Succeeded", "it answers")


async def test_a_remedy_that_fails_says_why(cell: Any) -> None:
    cell.runtime.fail("recover", RuntimeFailure("RuntimeNotReady", "cannot find crun", "install it"))
    earlier = attempt("Prune", state="TimedOut")
    await ask(cell, earlier, attempt("RestartRuntime"))
    answer = await answered(cell)
    assert (answer["attempt"], answer["state"]) == (1, "Failed")
    assert "cannot find crun" in answer["message"]


async def test_pruning_removes_rotated_logs_and_keeps_what_is_written(cell: Any) -> None:
    pod = await cell.pod()
    await cell.until("web", lambda found: (found.get("status") or {}).get("phase") == "Running")
    log = cell.agent.layout.log(pod, "main", 0)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("kept")
    for suffix in ("20260101-000000.0.gz", "20260101-000001.0"):
        log.with_name(f"{log.name}.{suffix}").write_text("old")
    await ask(cell, attempt("Prune"))
    answer = await answered(cell)
    assert answer["state"] == "Succeeded", answer
    assert "2 rotated logs removed" in answer["message"]
    assert log.read_text() == "kept"
    assert [path.name for path in log.parent.glob("*.log*")] == [log.name]


async def test_a_restart_is_answered_by_the_agent_that_comes_after(cell: Any) -> None:
    running = {"attempt": 0, "state": "Running", "at": NOW, "bootID": "whatever"}
    await cell.agent.stop()
    await ask(cell, attempt("RestartAgent"), answer=running)
    await cell.restart_agent()
    answer = await answered(cell)
    assert (answer["state"], answer["message"]) == ("Succeeded", "the agent is back")


@pytest.mark.parametrize(("before", "state"), [("another", "Succeeded"), ("this", "Failed")])
async def test_a_reboot_is_one_only_if_the_boot_is_another(cell: Any, before: str, state: str) -> None:
    boot = cell.agent._machine.info["bootID"] if before == "this" else before
    await cell.agent.stop()
    await ask(cell, attempt("Reboot"), answer={"attempt": 0, "state": "Running", "at": NOW, "bootID": boot})
    await cell.restart_agent()
    assert (await answered(cell))["state"] == state


async def test_without_a_command_of_the_owner_nothing_is_rebooted(cell: Any) -> None:
    await ask(cell, attempt("Reboot"))
    answer = await answered(cell)
    assert answer["state"] == "Failed"
    assert "no reboot command is configured" in answer["message"]


async def test_an_agent_within_a_server_is_not_restarted(cell: Any) -> None:
    await ask(cell, attempt("RestartAgent"))
    assert "part of the server's process" in (await answered(cell))["message"]


async def test_an_agent_writes_its_answer_and_nothing_else(cell: Any) -> None:
    agent: Client = cell.agent._client
    await ask(cell, attempt("Remote", performer="Server"))
    await ask(cell, attempt("Remote", performer="Server"), machine="m2", name="m2-abc")
    mine = await agent.list(REPAIRS, field_selector="spec.nodeName=m1")
    assert [item["metadata"]["name"] for item in mine["items"]] == ["m1-abc"]
    answer = {"answer": {"attempt": 0, "state": "Failed", "at": NOW}}
    refused: list[tuple[str, Obj, str]] = [
        ("m1-abc", {"status": {"phase": "Healthy"}}, "status"),
        ("m1-abc", {"status": {**answer, "attempts": []}}, "status"),
        ("m1-abc", {"spec": {"approved": True}}, ""),
        ("m2-abc", {"status": answer}, "status"),
    ]
    for name, patch, subresource in refused:
        with pytest.raises(StatusError) as error:
            await agent.patch(REPAIRS, name, patch, kind=MERGE_PATCH, subresource=subresource)
        assert error.value.code == 403, (name, patch)
    for selector in ("", "spec.nodeName=m2"):
        with pytest.raises(StatusError) as error:
            await agent.list(REPAIRS, field_selector=selector)
        assert error.value.code == 403
    with pytest.raises(StatusError) as error:
        await agent.get(REPAIRS, "m2-abc")
    assert error.value.code == 403
