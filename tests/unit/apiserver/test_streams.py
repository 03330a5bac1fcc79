import random
from typing import Any

import orjson
import pytest

from corral.apiserver.admission.chain import Chain
from corral.apiserver.core import Core
from corral.apiserver.routing import Target, split
from corral.apiserver.subresources.streams import Destination, destination
from corral.base.clock import SystemClock
from corral.kinds.registry import Registry
from corral.kinds.status import StatusError
from corral.store.memory import MemoryStore

NODE: dict[str, Any] = {
    "kind": "Node",
    "apiVersion": "v1",
    "metadata": {"name": "n"},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    },
}


def make_pod(node: str = "n", *names: str) -> dict[str, Any]:
    containers = [{"name": name} for name in names or ("c",)]
    spec = {"nodeName": node, "containers": containers}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": "a"}, "spec": spec}


async def make_core(*pods: dict[str, Any]) -> Core:
    store = MemoryStore()
    await store.create("/core/nodes/n", orjson.dumps(NODE))
    for pod in pods:
        await store.create("/core/pods/a/p", orjson.dumps(pod))
    return Core(store, Registry.builtin(), Chain([]), SystemClock(), random.Random(1))


def target(path: str) -> Target:
    found = split(path)
    assert found is not None
    return found


POD = "/api/v1/namespaces/a/pods/p"


@pytest.mark.parametrize(
    ("path", "pairs", "where"),
    [
        ("log", [("follow", "true"), ("tailLines", "5")], ("/containerLogs/a/p/c", "follow=true&tailLines=5")),
        (
            "exec",
            [("command", "ls"), ("command", "-l"), ("stdout", "true"), ("stdin", "false")],
            ("/exec/a/p/c", "output=1&command=ls&command=-l"),
        ),
        ("attach", [("stdin", "1"), ("tty", "true"), ("stdout", "1")], ("/attach/a/p/c", "input=1&output=1&tty=1")),
        ("portforward", [("ports", "80,81")], ("/portForward/a/p", "port=80&port=81")),
    ],
)
async def test_paths_and_parameters_are_the_kubelets(path: str, pairs: Any, where: tuple[str, str]) -> None:
    core = await make_core(make_pod())
    assert destination(core, target(f"{POD}/{path}"), pairs) == Destination("10.0.0.1", 10250, *where)


async def test_a_node_is_proxied_to_its_agent() -> None:
    core = await make_core()
    found = destination(core, target("/api/v1/nodes/n/proxy/stats/summary"), [("x", "1")])
    assert found == Destination("10.0.0.1", 10250, "/stats/summary", "x=1")


@pytest.mark.parametrize(
    ("pod", "path", "pairs", "words"),
    [
        (make_pod("n", "a", "b"), "log", [], r"choose one of: \[a b\]"),
        (make_pod(), "log", [("container", "x")], "container x is not valid for pod p"),
        (make_pod(), "exec", [("stdout", "true")], "at least one command"),
        (make_pod(), "attach", [], "at least one of stdin"),
        (make_pod(), "log", [("tailLines", "-1")], "tailLines"),
        (make_pod(""), "exec", [("command", "x"), ("stdout", "1")], "does not have a host"),
    ],
)
async def test_refusals_say_what_to_do(pod: Any, path: str, pairs: Any, words: str) -> None:
    core = await make_core(pod)
    with pytest.raises(StatusError, match=words) as refused:
        destination(core, target(f"{POD}/{path}"), pairs)
    assert refused.value.code == 400


async def test_a_pod_without_a_machine_has_no_log_yet() -> None:
    core = await make_core(make_pod(""))
    assert not destination(core, target(f"{POD}/log"), []).host
