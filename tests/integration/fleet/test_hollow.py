"""Hollow machines join a real cell over TLS, run pods by name only, and die without a goodbye."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from corral.app.cell import running_cell
from corral.app.config import CellConfig
from corral.client.client import Client
from corral.client.kubeconfig import load
from corral.kinds import conditions
from corral.kinds.bootstraptokens import token_secret
from corral.kinds.health import PROFILES
from corral.kinds.resources import (
    CERTIFICATE_SIGNING_REQUESTS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    LEASES,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.testing.hollow import Fleet

SECONDS = 30.0
_TOKEN = ("abcdef", "0123456789abcdef")


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Client]:
    """The administrator of a cell without machines, in the fast profile."""
    config = CellConfig(tmp_path / "c", "127.0.0.1", 0, agent=False, health_profile="fast")
    async with running_cell(config, lambda *step: None):
        client = Client(load(config.kubeconfig).transport())
        await client.create(SECRETS, token_secret(*_TOKEN, "", None))
        yield client
        await client.close()


@pytest.fixture
async def fleet(admin: Client, tmp_path: Path) -> AsyncIterator[Fleet]:
    info = (await admin.get(CONFIG_MAPS, "cluster-info", "kube-public"))["data"]
    port = info["server"].rpartition(":")[2]
    made = Fleet(f"https://127.0.0.1:{port}", ".".join(_TOKEN), info["ca-hash"], tmp_path / "machines")
    yield made
    await made.end()


async def until(client: Client, wanted: Callable[[list[Obj]], bool]) -> list[Obj]:
    """The default namespace's pods as soon as they are as wanted."""
    async with asyncio.timeout(SECONDS):
        while True:
            pods: list[Obj] = (await client.list(PODS, "default"))["items"]
            if wanted(pods):
                return pods
            await asyncio.sleep(0.1)


async def acquainted(client: Client, machine: str) -> None:
    """Return when the machine renews its Lease at the cell's pace; before, its silence means nothing for 40 s."""
    pace = PROFILES["fast"].lease
    async with asyncio.timeout(SECONDS):
        while True:
            lease = await client.get(LEASES, machine, "kube-node-lease")
            if lease["spec"]["leaseDurationSeconds"] == pace:
                return
            await asyncio.sleep(0.1)


def ready_on(pods: list[Obj]) -> list[str]:
    """The machines of the pods that are ready and stay."""
    staying = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    return sorted(pod["spec"]["nodeName"] for pod in staying if conditions.is_true(pod, "Ready"))


async def deploy(client: Client, replicas: int) -> None:
    """Start a Deployment, spread over the machines by their names."""
    labels = {"app": "web"}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    pod = {"containers": [{"name": "main", "image": "app:1"}], "topologySpreadConstraints": [spread]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "web", "namespace": "default"}
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await client.get(SERVICE_ACCOUNTS, "default", "default")
                break
            except StatusError:
                await asyncio.sleep(0.05)
    await client.create(
        DEPLOYMENTS, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    )


async def test_hollow_machines_join_run_pods_and_die(admin: Client, fleet: Fleet) -> None:
    await asyncio.gather(fleet.join(0), fleet.join(1))
    nodes = {node["metadata"]["name"]: node for node in (await admin.list(NODES))["items"]}
    assert sorted(nodes) == ["hollow-0", "hollow-1"]
    assert all(conditions.is_true(node, "Ready") for node in nodes.values())
    requests = (await admin.list(CERTIFICATE_SIGNING_REQUESTS))["items"]
    signed = [x509.load_pem_x509_certificate(base64.b64decode(found["status"]["certificate"])) for found in requests]
    names = sorted(str(one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value) for one in signed)
    assert names == sorted(2 * [f"system:node:{name}" for name in nodes])

    await deploy(admin, 4)
    pods = await until(admin, lambda pods: len(ready_on(pods)) == 4)
    assert ready_on(pods) == ["hollow-0", "hollow-0", "hollow-1", "hollow-1"]
    assert all(pod["status"]["containerStatuses"][0]["state"].get("running") for pod in pods)

    await acquainted(admin, "hollow-0")
    await fleet.die("hollow-0")
    pods = await until(admin, lambda pods: ready_on(pods) == 4 * ["hollow-1"])
    assert not conditions.is_true(await admin.get(NODES, "hollow-0"), "Ready")
