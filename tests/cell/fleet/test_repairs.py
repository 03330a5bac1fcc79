"""Repairs of real machines: one that is dead is switched on again, an agent is restarted, a machine reboots."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Fleet, deployment, until

SLEEPS = "trap 'exit 0' TERM; sleep 3600 & wait"
REBOOT = """sleep 0.3
cd /
corral="env PYTHONPATH={path} {python} -m corral machine"
$corral kill m3 --data-dir {data_dir}
$corral heal m3 --data-dir {data_dir}
"""


def remedies(*types: str) -> list[dict[str, Any]]:
    return [{"type": type_, "settleSeconds": 0, "timeoutSeconds": 30} for type_ in types]


def write_commands(path: Path, **commands: list[str]) -> None:
    path.write_text(json.dumps(commands))


@pytest.fixture
def quick(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet with rules that lose no time, and commands that play a power switch and a reboot."""
    rules = [
        {"name": "dead", "condition": "Ready", "status": "Unknown", "timeoutSeconds": 1, "drain": True},
        {"name": "odd", "condition": "TestTrouble", "timeoutSeconds": 0, "drain": True},
    ]
    rules[0]["remedies"], rules[1]["remedies"] = remedies("Remote"), remedies("RestartAgent", "Reboot")
    spec = {"maxInRepair": 2, "probationSeconds": 0, "rules": rules}
    policy = {"kind": "RepairPolicy", "metadata": {"name": "default"}, "spec": spec}
    switch = [sys.executable, "-m", "corral", "machine", "heal", "{machine}", "--data-dir", str(fleet.data_dir)]
    write_commands(fleet.data_dir / "repair.yaml", remote=switch)
    fleet.kubectl("delete", "repairs", "--all")
    fleet.corral("repair", "rules", "-f", "-", stdin=json.dumps(policy))
    yield fleet
    fleet.corral("repair", "rules", "--reset")
    (fleet.data_dir / "repair.yaml").unlink()
    fleet.kubectl("delete", "repairs", "--all")


def repair_of(fleet: Fleet, machine: str) -> dict[str, Any]:
    found = [one for one in fleet.get("repairs")["items"] if one["spec"]["nodeName"] == machine]
    status: dict[str, Any] = found[-1].get("status") or {} if found else {}
    return status


def tried(status: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["remedy"], one["state"]) for one in status.get("attempts", ())]


def make_odd(fleet: Fleet, machine: str, status: str) -> None:
    said = {"type": "TestTrouble", "status": status, "reason": "Test", "message": "odd"}
    patch = json.dumps({"status": {"conditions": [said]}})
    fleet.kubectl("patch", "node", machine, "--subresource=status", "--type=strategic", "-p", patch)


def test_a_dead_machine_is_switched_on_again_while_an_odd_one_gets_a_new_agent_and_reboots(
    quick: Fleet, tmp_path: Path
) -> None:
    odd, script = quick.machine("m3"), tmp_path / "reboot.sh"
    path = os.environ.get("PYTHONPATH", "")
    script.write_text(REBOOT.format(path=path, python=sys.executable, data_dir=quick.data_dir))
    outside = ["nsenter", f"--net=/proc/{os.getpid()}/ns/net"]
    write_commands(odd.config.data_dir / "repair.yaml", reboot=["setsid", "--fork", *outside, "sh", str(script)])
    boot, agent = quick.get("node", "m3")["status"]["nodeInfo"]["bootID"], odd.config.pid_file.read_text()
    quick.kubectl("apply", "-f", "-", stdin=deployment("web", 3, SLEEPS))
    until(lambda: len(quick.running("web")) == 3, "the pods do not run")
    lost = {name for name, machine in quick.running("web").items() if machine == "m2"}

    began = time.monotonic()
    quick.kill("m2")
    make_odd(quick, "m3", "True")
    until(lambda: ("RestartAgent", "Succeeded") in tried(repair_of(quick, "m3")), "the agent was not restarted")
    assert odd.config.pid_file.read_text() == agent, "whoever supervises it sees the same process"
    until(lambda: ("Reboot", "Succeeded") in tried(repair_of(quick, "m3")), "the machine was not rebooted")
    make_odd(quick, "m3", "False")
    until(lambda: repair_of(quick, "m2").get("phase") == "Healthy", "m2 was not repaired")
    print(f"\na dead machine is back after {time.monotonic() - began:.1f} s")

    status = repair_of(quick, "m2")
    assert tried(status) == [("Remote", "Succeeded")]
    assert [one["phase"] for one in status["transitions"]] == [
        *("Suspect", "Cordoned", "Drained", "Repairing", "Probation", "Healthy")
    ]
    moved = {one["pod"]: one["toMachine"] for one in status["moved"]}
    assert lost <= set(moved)
    assert "m2" not in moved.values()
    assert not quick.get("node", "m2")["spec"].get("taints")
    until(lambda: repair_of(quick, "m3").get("phase") == "Healthy", "the repair of m3 did not end")
    assert quick.get("node", "m3")["status"]["nodeInfo"]["bootID"] != boot
    assert "Reboot  Succeeded" in quick.corral("repair", "show", "m3").stdout
