"""A machine is tainted: those that do not bear it move on, through a real API."""

from typing import Any

from corral.kinds.resources import DEPLOYMENTS, EVENTS, NODES, PODS
from corral.kinds.types import Obj

TAINT = {"spec": {"taints": [{"key": "broken", "effect": "NoExecute"}]}}


def deployment(name: str, *tolerations: Obj) -> Obj:
    labels = {"app": name}
    spec = {"containers": [{"name": "c", "image": "v1"}], "tolerations": list(tolerations)}
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def running(number: int) -> Any:
    return lambda items: len(items) == number and all(pod.get("status", {}).get("phase") == "Running" for pod in items)


async def test_pods_leave_a_tainted_machine(cell: Any) -> None:
    await cell.client.create(NODES, {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "m2"}})
    await cell.client.create(DEPLOYMENTS, deployment("moves"))
    await cell.client.create(DEPLOYMENTS, deployment("stays", {"key": "broken", "operator": "Exists"}))
    before = await cell.until_list(PODS, running(4))
    cell.kubelet.machine = "m2"
    await cell.client.patch(NODES, "m1", TAINT)

    def moved(items: list[Obj]) -> bool:
        where = {(pod["metadata"]["labels"]["app"], pod["spec"].get("nodeName")) for pod in items}
        return running(4)(items) and where == {("moves", "m2"), ("stays", "m1")}

    after = await cell.until_list(PODS, moved)
    kept = {pod["metadata"]["uid"] for pod in before} & {pod["metadata"]["uid"] for pod in after}
    assert len(kept) == 2
    events = await cell.until_list(
        EVENTS, lambda items: sum(event["reason"] == "TaintManagerEviction" for event in items) == 2
    )
    assert events


async def test_a_bearable_taint_that_goes_in_time_moves_nobody(cell: Any) -> None:
    bears = {"key": "broken", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3600}
    await cell.client.create(DEPLOYMENTS, deployment("waits", bears))
    before = await cell.until_list(PODS, running(2))
    await cell.client.patch(NODES, "m1", TAINT)
    await cell.client.patch(NODES, "m1", {"spec": {"taints": None}})
    await cell.client.create(DEPLOYMENTS, deployment("after"))
    after = await cell.until_list(PODS, running(4))
    assert {pod["metadata"]["uid"] for pod in before} <= {pod["metadata"]["uid"] for pod in after}


async def test_the_time_of_a_taint_that_a_person_set_runs_out(cell: Any) -> None:
    bears = {"key": "broken", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2}
    await cell.client.create(NODES, {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "m2"}})
    await cell.client.create(DEPLOYMENTS, deployment("waits", bears))
    await cell.until_list(PODS, running(2))
    cell.kubelet.machine = "m2"
    await cell.client.patch(NODES, "m1", TAINT)
    await cell.until_list(PODS, lambda items: running(2)(items) and {i["spec"]["nodeName"] for i in items} == {"m2"})


async def test_machines_without_a_spec_disturb_nobody(cell: Any, caplog: Any) -> None:
    for number in range(3):
        await cell.client.create(NODES, {"kind": "Node", "apiVersion": "v1", "metadata": {"name": f"bare-{number}"}})
    await cell.client.create(DEPLOYMENTS, deployment("works"))
    await cell.until_list(PODS, running(2))
    assert not [record for record in caplog.records if record.exc_info]
