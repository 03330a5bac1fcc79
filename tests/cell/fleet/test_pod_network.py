"""Pods of a fleet reach each other across machines under their own addresses, also after a power cut."""

import json
import urllib.request
from ipaddress import ip_address, ip_network
from itertools import permutations
from typing import Any

from .conftest import MACHINES, Fleet, until

# Answers with the address that it was asked from.
ANSWER = """
import signal, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.client_address[0].encode())
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
ASK = "import sys, urllib.request as r; print(r.urlopen(f'http://{sys.argv[1]}:8080', timeout=2).read().decode())"


def daemon_set() -> str:
    """One server on each machine."""
    labels = {"app": "answers"}
    container = {"name": "c", "image": "host", "command": ["/usr/bin/python3", "-c", ANSWER]}
    pod = {"containers": [container], "terminationGracePeriodSeconds": 1}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return json.dumps({"kind": "DaemonSet", "apiVersion": "apps/v1", "metadata": {"name": "answers"}, "spec": spec})


def pods(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """Name and address of the pod of each machine that is ready."""
    return {
        pod["spec"]["nodeName"]: (pod["metadata"]["name"], pod["status"]["podIP"])
        for pod in fleet.get("pods", "-l", "app=answers")["items"]
        if any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))
    }


def ask(fleet: Fleet, pod: str, address: str) -> str:
    """Whose address the server at `address` sees when `pod` asks."""
    asked = fleet.kubectl("exec", pod, "--", "/usr/bin/python3", "-c", ASK, address, check=False)
    return asked.stdout.strip()


def reaches(fleet: Fleet, one: tuple[str, str], other: tuple[str, str]) -> None:
    until(lambda: ask(fleet, one[0], other[1]) == one[1], f"{one} does not reach {other}")


def test_pods_reach_pods_on_every_machine(fleet: Fleet) -> None:
    subnets: dict[str, Any] = {item["metadata"]["name"]: item["spec"] for item in fleet.get("hostsubnets")["items"]}
    assert {name: spec["hostIP"] for name, spec in subnets.items()} == {
        name: fleet.machine(name).address for name in MACHINES
    }
    fleet.kubectl("apply", "-f", "-", stdin=daemon_set())
    until(lambda: set(pods(fleet)) == set(MACHINES), "the pods do not run")
    found = pods(fleet)
    for name, (_, address) in found.items():
        assert ip_address(address) in ip_network(subnets[name]["podCIDRs"][0])
    for one, other in permutations(found.values(), 2):
        reaches(fleet, one, other)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://{found['m1'][1]}:8080", timeout=5) as answer:
        assert answer.read().decode() == fleet.machine("m1").gateway
    fleet.kill("m2")
    fleet.heal("m2")
    until(lambda: pods(fleet).get("m2", found["m2"]) != found["m2"], "the pod of m2 did not start again")
    found = pods(fleet)
    reaches(fleet, found["m1"], found["m2"])
    reaches(fleet, found["m2"], found["m3"])
