"""`corral up --machines`: machines with networks and agents of their own, and the failures that are played on them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time

from corral.agent.mounts import mounts_below
from corral.app.fleet import links

from .conftest import MACHINES, Fleet, deployment, until

SERVES = "trap 'exit 0' TERM; sleep 3600 & wait"


def boots(fleet: Fleet) -> dict[str, str]:
    return {node["metadata"]["name"]: node["status"]["nodeInfo"]["bootID"] for node in fleet.get("nodes")["items"]}


def test_each_machine_has_a_network_and_a_boot_of_its_own(fleet: Fleet) -> None:
    nodes = {node["metadata"]["name"]: node["status"] for node in fleet.get("nodes")["items"]}
    assert set(nodes) == set(MACHINES), "the real machine runs no agent"
    addresses = {name: status["addresses"][0]["address"] for name, status in nodes.items()}
    assert addresses == {name: fleet.machine(name).address for name in MACHINES}
    assert len(set(boots(fleet).values())) == len(MACHINES)
    assert {status["capacity"]["cpu"] for status in nodes.values()} == {"4"}
    namespaces = {os.stat(fleet.machine(name).namespace).st_ino for name in MACHINES}
    assert len(namespaces | {os.stat("/proc/self/ns/net").st_ino}) == len(MACHINES) + 1


def test_pods_reach_the_server_and_their_logs_come_back(fleet: Fleet) -> None:
    script = "exec 3<>/dev/tcp/$KUBERNETES_SERVICE_HOST/$KUBERNETES_SERVICE_PORT && echo reached"
    done = fleet.corral("run", "--name", "asks", "--", "bash", "-c", script)
    assert done.stdout.split() == ["reached"]


def test_what_ran_on_a_dead_and_on_a_cut_off_machine_runs_elsewhere(fleet: Fleet) -> None:
    fleet.kubectl("apply", "-f", "-", stdin=deployment("web", 3, SERVES))
    until(lambda: set(fleet.running("web").values()) == set(MACHINES), "the pods are not on all machines")
    before = boots(fleet)
    began = time.monotonic()
    fleet.kill("m2")
    fleet.partition("m3", "in")
    machine = fleet.machine("m2")
    assert fleet.processes("m2") == []
    assert mounts_below(machine.config.data_dir) == []
    assert fleet.ready()["m2"] == "True", "the server learned of it by itself, not from a goodbye"
    until(lambda: list(fleet.running("web").values()) == ["m1"] * 3, "the pods did not move")
    print(f"\npods of a killed and of a cut off machine run elsewhere after {time.monotonic() - began:.1f} s")
    agent = fleet.machine("m3").config.pid_file.read_text()
    assert fleet.ready() == {"m1": "True", "m2": "Unknown", "m3": "Unknown"}
    fleet.heal("m2")
    fleet.heal("m3")
    until(lambda: set(fleet.ready().values()) == {"True"}, "the machines did not come back")
    after = boots(fleet)
    assert {name for name in MACHINES if after[name] != before[name]} == {"m2"}
    assert fleet.machine("m3").config.pid_file.read_text() == agent


def test_machines_go_on_without_the_server_and_the_dead_stay_dead(fleet: Fleet) -> None:
    fleet.kill("m2")
    fleet.kubectl("apply", "-f", "-", stdin=deployment("goes-on", 2, SERVES))
    until(lambda: set(fleet.running("goes-on").values()) == {"m1", "m3"}, "the pods do not run on the others")
    before = {name: fleet.processes(name) for name in ("m1", "m3")}
    os.kill(fleet.pid(), signal.SIGINT)
    until(lambda: not fleet.config.pid_file.exists(), "the server does not end")
    assert fleet.up().stdout.count("was killed") == 1
    assert {name: fleet.processes(name) for name in before} == before
    assert fleet.processes("m2") == []


def test_a_frozen_agent_is_given_up_and_comes_back(fleet: Fleet) -> None:
    fleet.freeze("m1", "--agent-only")
    until(lambda: fleet.ready()["m1"] == "Unknown", "nobody noticed")
    fleet.corral("machine", "thaw", "m1")
    until(lambda: fleet.ready()["m1"] == "True", "it did not come back")


def test_what_cannot_be_done_is_refused_with_a_remedy(fleet: Fleet) -> None:
    for words, remedy in (
        (("machine", "kill", "m9"), "the fleet has m1 to m3"),
        (("machine", "kill", "m1", "--data-dir", "/nonexistent"), "corral up --machines 3"),
    ):
        done = fleet.corral(*words, check=False)
        assert done.returncode == 1
        assert remedy in done.stderr


def test_names_resolve_although_the_hosts_resolver_is_on_its_loopback(fleet: Fleet) -> None:
    machine = fleet.machine("m1")
    asks = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); "
        "s.sendto(b'question', ('127.0.0.53', 53)); print(s.recv(99).decode())"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        resolver.bind((machine.gateway, 53))
        asyncio.run(links.redirect_names(machine, machine.gateway))
        asking = subprocess.Popen([*links.within(machine), sys.executable, "-c", asks], stdout=subprocess.PIPE)
        resolver.settimeout(20)
        question, sender = resolver.recvfrom(99)
        assert (question, sender[0]) == (b"question", machine.address)
        resolver.sendto(b"answer", sender)
        assert asking.communicate(timeout=20)[0] == b"answer\n"
