"""A Service's endpoints follow its pods, through a real API."""

from typing import Any

from corral.kinds.resources import DEPLOYMENTS, ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES
from corral.kinds.types import Obj


def deployment(replicas: int) -> Obj:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def service() -> Obj:
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def shows(number: int) -> Any:
    return lambda items: (
        sum(item["conditions"]["ready"] for one in items for item in one.get("endpoints") or ()) == number
        and bool(items)
    )


async def give_addresses(cell: Any) -> None:
    for number, pod in enumerate((await cell.client.list(PODS, "default"))["items"]):
        address = {"status": {"podIP": f"10.2.0.{number + 1}"}}
        await cell.client.patch(PODS, pod["metadata"]["name"], address, "default", subresource="status")


async def test_endpoints_follow_the_pods(cell: Any) -> None:
    await cell.client.create(SERVICES, service())
    await cell.until_list(ENDPOINT_SLICES, shows(0), selector="kubernetes.io/service-name=web")
    await cell.client.create(DEPLOYMENTS, deployment(3))
    await cell.until_list(PODS, lambda items: sum(pod["status"].get("phase") == "Running" for pod in items) == 3)
    await give_addresses(cell)
    await cell.until_list(ENDPOINT_SLICES, shows(3), selector="kubernetes.io/service-name=web")
    await cell.until(ENDPOINTS, "web", lambda obj: len((obj.get("subsets") or [{}])[0].get("addresses") or ()) == 3)
    await cell.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 1}}, "default", subresource="scale")
    await cell.until_list(ENDPOINT_SLICES, shows(1), selector="kubernetes.io/service-name=web")
    await cell.client.delete(SERVICES, "web", "default")
    await cell.until_list(ENDPOINT_SLICES, lambda items: not items)
    await cell.until_gone(ENDPOINTS, "web")
