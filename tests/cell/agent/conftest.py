"""A whole cell in this process, with real containers, on the test's own directory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from corral.agent import mounts
from corral.agent.logs import tail_text
from corral.apiserver.auth.api import User
from corral.apiserver.auth.pki import MASTERS
from corral.apiserver.inprocess import InProcessTransport
from corral.app.cell import running_cell
from corral.app.config import CellConfig, prepare_data_dir
from corral.app.runtime import open_runtime
from corral.client.client import Client
from corral.kinds.resources import PODS, SERVICE_ACCOUNTS
from corral.kinds.types import Obj, Resource

ADMIN = User("admin", (MASTERS, "system:authenticated"))
PATIENCE = 30.0


@dataclass
class Cell:
    """A running cell and its administrator."""

    admin: Client
    agent_dir: Path

    async def pod(self, name: str, *command: str, **spec: Any) -> Obj:
        container = {"name": "main", "image": "host", "command": list(command), **spec.pop("container", {})}
        wanted = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, **spec}
        metadata = {"name": name, "namespace": "default"}
        return await self.admin.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": wanted})

    async def first(self, resource: Resource, wanted: Callable[[Obj], bool]) -> Obj:
        """The first object in the default namespace that is as wanted, now or as soon as there is one."""
        async with asyncio.timeout(PATIENCE):
            listed = await self.admin.list(resource, "default")
            for item in listed["items"]:
                if wanted(item):
                    found: Obj = item
                    return found
            version = listed["metadata"]["resourceVersion"]
            async with self.admin.watch(resource, "default", resource_version=version) as events:
                async for event in events:
                    if event.type in ("ADDED", "MODIFIED") and wanted(event.object):
                        return event.object
        raise AssertionError("the watch ended")

    async def until(self, name: str, wanted: Callable[[Obj], bool]) -> Obj:
        """The pod as soon as its status is as wanted."""
        return await self.first(PODS, lambda pod: pod["metadata"]["name"] == name and wanted(pod.get("status") or {}))

    async def ended(self, name: str) -> Obj:
        """How the pod's container ended."""
        pod = await self.until(name, lambda status: status.get("phase") in ("Succeeded", "Failed"))
        terminated: Obj = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        return terminated

    async def delete_all(self) -> None:
        """Delete every pod and wait until it is gone."""
        async with asyncio.timeout(PATIENCE):
            listed = await self.admin.list(PODS, "default")
            left = {item["metadata"]["name"] for item in listed["items"]}
            version = listed["metadata"]["resourceVersion"]
            async with self.admin.watch(PODS, "default", resource_version=version) as events:
                for name in left:
                    await self.admin.delete(PODS, name, "default")
                if left:
                    async for event in events:
                        if event.type == "DELETED":
                            left.discard(event.object["metadata"]["name"])
                        if not left:
                            return

    def log(self, pod: Obj, attempt: int = 0) -> str:
        """What the pod's container wrote, without time stamps."""
        metadata = pod["metadata"]
        directory = self.agent_dir / "logs" / f"default_{metadata['name']}_{metadata['uid']}"
        return tail_text(directory / "main" / f"{attempt}.log", lines=1000, size=1 << 20)


OpenCell = Callable[[], Any]


@pytest.fixture
async def open_cell(cell_directory: Path) -> AsyncIterator[OpenCell]:
    """Opens cells on one directory: the second one is the cell after a restart."""
    config = CellConfig(data_dir=cell_directory, host="127.0.0.1", port=0, node_name="m1")
    prepare_data_dir(config)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Cell]:
        async with running_cell(config, lambda name, what, seconds: None) as running:
            cell = Cell(Client(InProcessTransport(running.server, ADMIN)), config.agent_dir)
            await cell.first(SERVICE_ACCOUNTS, lambda account: account["metadata"]["name"] == "default")
            yield cell

    yield opened
    runtime = open_runtime(config)
    await runtime.open()
    for sandbox in await runtime.sandboxes():
        await runtime.remove_sandbox(sandbox.id)
    await runtime.destroy_network()
    await runtime.close()
    mounts.unmount_below(cell_directory)


@pytest.fixture
async def cell(open_cell: OpenCell) -> AsyncIterator[Cell]:
    async with open_cell() as opened:
        yield opened
        await opened.delete_all()
