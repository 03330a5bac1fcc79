"""`corral up --machines`: machines with networks and agents of their own, and the failures that are played on them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time

from corral.agent.mounts import mounts_below
from corral.agent.runtime.oci.cgroups import Cgroups
from corral.app.fleet import links

from .conftest import MACHINES, Fleet, deployment, stateful_set, until

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


def agent(fleet: Fleet, name: str) -> int:
    """The process of a machine's agent."""
    return int(fleet.machine(name).config.pid_file.read_text())


def holders(fleet: Fleet, name: str) -> int:
    """How many processes run in containers of a machine."""
    groups = Cgroups(f"/corral-{fleet.machine(name).config.name}")
    return sum(len(groups.processes(group)) for group in groups.pods())


def spread(fleet: Fleet, app: str, manifest: str) -> dict[str, str]:
    """Create a workload of three; gives the machines of its pods when each runs on another."""
    fleet.kubectl("apply", "-f", "-", stdin=manifest)
    until(lambda: set(fleet.running(app).values()) == set(MACHINES), f"{app} does not run on all machines")
    return fleet.running(app)


def test_what_ran_on_a_dead_and_on_a_frozen_machine_runs_elsewhere_and_never_twice(fleet: Fleet) -> None:
    spread(fleet, "web", deployment("web", 3, SERVES))
    before, boot = spread(fleet, "db", stateful_set("db", 3, SERVES)), boots(fleet)
    began = time.monotonic()
    fleet.kill("m2")
    fleet.freeze("m3", "--agent-only")
    assert fleet.processes("m2") == []
    assert mounts_below(fleet.machine("m2").config.data_dir) == []
    moved: dict[str, float] = {}
    while len(moved) < 3:
        seconds, db, web = time.monotonic() - began, fleet.running("db"), fleet.running("web")
        assert seconds < 60, (moved, db, web)
        if [name for name in db if before[name] == "m3" and db[name] == "m1"]:
            # Asked after it was seen elsewhere.
            assert holders(fleet, "m3") == 0, "two holders"
        elsewhere = {name for name in db if before[name] != "m1" and db[name] == "m1"}
        elsewhere |= {"web"} if list(web.values()) == ["m1"] * 3 else set()
        moved.update({name: round(seconds, 1) for name in elsewhere - moved.keys()})
    print(f"\nseconds after a power cut and a frozen agent until all runs elsewhere: {moved}")
    fleet.corral("machine", "thaw", "m3")
    fleet.heal("m2")
    until(lambda: set(fleet.ready().values()) == {"True"}, "the machines did not come back")
    assert {name for name, now in boots(fleet).items() if now != boot[name]} == {"m2"}
    assert holders(fleet, "m3") == 0, "what was thawed did not start again"


def test_a_machine_that_is_cut_off_is_given_up_and_comes_back(fleet: Fleet) -> None:
    before = agent(fleet, "m3")
    fleet.partition("m3", "in")
    until(lambda: fleet.ready()["m3"] == "Unknown", "nobody noticed")
    fleet.heal("m3")
    until(lambda: fleet.ready()["m3"] == "True", "it did not come back")
    assert agent(fleet, "m3") == before


def test_machines_go_on_without_the_server_and_the_dead_stay_dead(fleet: Fleet) -> None:
    fleet.kill("m2")
    before = {name: agent(fleet, name) for name in ("m1", "m3")}
    os.kill(fleet.pid(), signal.SIGINT)
    until(lambda: not fleet.config.pid_file.exists(), "the server does not end")
    assert fleet.up().stdout.count("was killed") == 1
    assert {name: agent(fleet, name) for name in before} == before
    assert all(pid in fleet.processes(name) for name, pid in before.items())
    assert fleet.processes("m2") == []


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
