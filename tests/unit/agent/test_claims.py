"""Claims on a machine: what is mounted, what is refused, and that only what is ours and deleted is removed."""

import asyncio
import contextlib
import os
import random
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from corral.agent.env import Surroundings
from corral.agent.layout import Layout
from corral.agent.volumes.api import VolumeError
from corral.agent.volumes.manager import VolumeManager, container_mounts
from corral.agent.volumes.reclaimer import VolumeReclaimer
from corral.apiserver.auth.api import User
from corral.apiserver.auth.authorizer import CellAuthorizer
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.base.clock import SystemClock
from corral.client.client import Client
from corral.kinds.registry import Registry
from corral.kinds.resources import PERSISTENT_VOLUMES
from corral.kinds.storage import LOCAL_FINALIZER
from corral.kinds.types import Key, Obj, Resource
from corral.store.memory import MemoryStore
from corral.testing.storage import claim, volume

OURS = {"pv.kubernetes.io/provisioned-by": "corral.dev/local"}


class Api:
    """Claims and volumes in a dictionary; nothing else."""

    def __init__(self, *objects: Obj) -> None:
        self.objects = {(obj["kind"], obj["metadata"]["name"]): obj for obj in objects}

    async def get(self, resource: Resource, namespace: str, name: str, pod_uid: str) -> Obj | None:
        return self.objects.get((resource.kind, name))

    async def token(self, pod: Obj, audience: str, seconds: int) -> Any:
        raise NotImplementedError

    async def fetch(self, namespace: str, digest: str, into: Path) -> None:
        raise NotImplementedError


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path)
    found.local_volumes.mkdir()
    return found


def user(read_only: bool = False, **spec: Any) -> Obj:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": read_only}}]
    container = {"name": "main", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    metadata = {"name": "p", "namespace": "default", "uid": "u1"}
    return {"metadata": metadata, "spec": {"volumes": volumes, "containers": [container], **spec}}


def ours(layout: Layout, name: str = "pv1", **fields: Any) -> Obj:
    """A volume that Corral's provisioner made on the machine m1."""
    made = volume(name, of="c", labels={"corral.dev/machine": "m1"}, on="m1")
    made["metadata"]["annotations"] = OURS
    made["spec"] |= {"local": {"path": str(layout.local_volumes / name)}, **fields}
    return made


async def prepare(layout: Layout, api: Api, pod: Obj) -> Path:
    ready = await VolumeManager(layout, api, api, api).prepare(pod, Surroundings(node_name="m1"))
    return ready["v"]


BOUND = claim("c", volume="pv1", bound=True)


async def test_our_directory_is_made_at_its_first_use_and_stays(layout: Layout) -> None:
    api = Api(BOUND, ours(layout))
    where = await prepare(layout, api, user())
    assert where == layout.local_volumes / "pv1"
    assert stat.S_IMODE(where.stat().st_mode) == 0o777
    (where / "kept").write_text("x")
    assert await prepare(layout, api, user()) == where
    await VolumeManager(layout, api, api, api).teardown("u1")
    assert (where / "kept").read_text() == "x"


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_claim_may_be_wanted_for_reading_only(layout: Layout, read_only: bool) -> None:
    pod = user(read_only)
    where = await prepare(layout, Api(BOUND, ours(layout)), pod)
    (mount,) = container_mounts(pod, pod["spec"]["containers"][0], {"v": where}, {}, layout)
    assert mount.read_only is read_only


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_the_group_of_a_pods_volumes_owns_the_directory(layout: Layout) -> None:
    where = await prepare(layout, Api(BOUND, ours(layout)), user(securityContext={"fsGroup": 4242}))
    assert where.stat().st_gid == 4242
    assert where.stat().st_mode & stat.S_ISGID


async def test_other_volumes_of_the_machine(layout: Layout, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    local = volume("pv1", of="c", on="m1")
    local["spec"]["local"]["path"] = str(there)
    assert await prepare(layout, Api(BOUND, local), user()) == there
    by_host = volume("pv1", of="c", hostPath={"path": str(tmp_path / "new"), "type": "DirectoryOrCreate"})
    assert await prepare(layout, Api(BOUND, by_host), user()) == tmp_path / "new"
    local["spec"]["local"]["path"] = str(tmp_path / "missing")
    with pytest.raises(VolumeError, match="is not a directory"):
        await prepare(layout, Api(BOUND, local), user())


def _elsewhere(layout: Layout) -> list[Obj]:
    return [BOUND, ours(layout, local={"path": str(layout.local_volumes / ".." / "pods")})]


def _etc(layout: Layout) -> list[Obj]:
    return [BOUND, ours(layout, local={"path": "/etc"})]


def _other_machine(layout: Layout) -> list[Obj]:
    found = ours(layout)
    found["metadata"]["labels"] = {"corral.dev/machine": "m2"}
    return [BOUND, found]


def _other_claim(layout: Layout) -> list[Obj]:
    return [claim("c", volume="pv1", bound=True, uid="another"), ours(layout)]


def _dots(layout: Layout) -> list[Obj]:
    local = volume("pv1", of="c", on="m1")
    local["spec"]["local"]["path"] = "/var/../etc"
    return [BOUND, local]


def _csi(layout: Layout) -> list[Obj]:
    found = volume("pv1", of="c")
    found["spec"]["csi"] = {"driver": "d", "volumeHandle": "h"}
    del found["spec"]["hostPath"]
    return [BOUND, found]


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        (lambda layout: [], 'persistentvolumeclaim "c" not found'),
        (lambda layout: [claim("c")], 'persistentvolumeclaim "c" is not bound'),
        (lambda layout: [BOUND], 'persistentvolume "pv1" not found'),
        (lambda layout: [BOUND, volume("pv1")], 'is not bound to the claim "c"'),
        (_other_claim, 'is not bound to the claim "c"'),
        (lambda layout: [BOUND, volume("pv1", of="c", volumeMode="Block")], "is a block device"),
        (_elsewhere, "where this machine keeps none"),
        (_etc, "where this machine keeps none"),
        (_other_machine, "is on the machine 'm2'"),
        (_dots, "must be absolute and without"),
        (_csi, "csi is not supported"),
    ],
)
async def test_what_is_not_mounted(layout: Layout, objects: Callable[[Layout], list[Obj]], why: str) -> None:
    with pytest.raises(VolumeError, match=why):
        await prepare(layout, Api(*objects(layout)), user())


async def test_a_link_in_place_of_the_directory_is_not_followed(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (layout.local_volumes / "pv1").symlink_to(tmp_path / "secret")
    with pytest.raises(VolumeError, match="is no directory"):
        await prepare(layout, Api(BOUND, ours(layout)), user())


async def test_an_ephemeral_claim_of_another_pod_is_not_mounted(layout: Layout) -> None:
    pod = user()
    pod["spec"]["volumes"] = [{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}]
    mine = claim("p-v", volume="pv1", bound=True)
    with pytest.raises(VolumeError, match="was not created for this pod"):
        await prepare(layout, Api(mine, ours(layout)), pod)
    mine["metadata"]["ownerReferences"] = [{"uid": "u1", "controller": True}]
    given = ours(layout)
    given["spec"]["claimRef"] |= {"name": "p-v", "uid": "uid-p-v"}
    assert await prepare(layout, Api(mine, given), pod) == layout.local_volumes / "pv1"


# Reclaiming


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    store = MemoryStore()
    authorizer = CellAuthorizer(store)
    await authorizer.start()
    rng = random.Random(1)
    made = ApiServer(store, Registry.builtin(), authorizer, clock=SystemClock(), rng=rng, tokens=None, node_dialer=None)
    await made.start()
    yield made
    await made.stop()
    await authorizer.stop()
    await store.close()


@contextlib.asynccontextmanager
async def reclaiming(server: ApiServer, layout: Layout, in_use: set[Key]) -> AsyncIterator[None]:
    """The agent of m1, under the Node authorizer and NodeRestriction."""
    agent = Client(InProcessTransport(server, User("system:node:m1", ("system:nodes", "system:authenticated"))))
    reclaimer = VolumeReclaimer(agent, "m1", layout.local_volumes, SystemClock(), lambda: in_use)
    task = asyncio.create_task(reclaimer.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def deleted(admin: Client, obj: Obj) -> None:
    del obj["metadata"]["uid"], obj["status"]
    obj["metadata"]["finalizers"] = [LOCAL_FINALIZER, "kubernetes.io/pv-protection"]
    name = obj["metadata"]["name"]
    await admin.create(PERSISTENT_VOLUMES, obj)
    await admin.delete(PERSISTENT_VOLUMES, name)


async def let_go(admin: Client, name: str) -> None:
    """Return when the agent holds the volume no longer."""
    async with asyncio.timeout(10), admin.watch(PERSISTENT_VOLUMES, field_selector=f"metadata.name={name}") as events:
        async for event in events:
            if LOCAL_FINALIZER not in event.object["metadata"]["finalizers"]:
                return


async def test_the_directory_of_a_deleted_volume_goes_and_nothing_else(
    server: ApiServer, layout: Layout, tmp_path: Path
) -> None:
    admin = Client(InProcessTransport(server, User("admin", ("system:masters",))))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    for name in ("gone", "kept", "alive"):
        (layout.local_volumes / name).mkdir()
        (layout.local_volumes / name / "link").symlink_to(outside)
    (layout.local_volumes / ".removed-old").mkdir()
    await admin.create(PERSISTENT_VOLUMES, {**ours(layout, "alive"), "status": {}})
    await deleted(admin, ours(layout, "gone", persistentVolumeReclaimPolicy="Delete"))
    await deleted(admin, ours(layout, "kept", persistentVolumeReclaimPolicy="Retain"))
    await deleted(admin, ours(layout, "never-made", persistentVolumeReclaimPolicy="Delete"))
    async with reclaiming(server, layout, set()):
        for name in ("gone", "kept", "never-made"):
            await let_go(admin, name)
    assert sorted(path.name for path in layout.local_volumes.iterdir()) == ["alive", "kept"]
    assert (outside / "precious").read_text() == "x"


async def test_a_volume_that_a_pod_here_still_has_is_left_alone(server: ApiServer, layout: Layout) -> None:
    admin = Client(InProcessTransport(server, User("admin", ("system:masters",))))
    (layout.local_volumes / "pv1").mkdir()
    (layout.local_volumes / "pv2").mkdir()
    used, free = (ours(layout, name, persistentVolumeReclaimPolicy="Delete") for name in ("pv1", "pv2"))
    free["spec"]["claimRef"]["name"] = "other"
    await deleted(admin, used)
    await deleted(admin, free)
    async with reclaiming(server, layout, {Key("default", "c")}):
        await let_go(admin, "pv2")
    assert [path.name for path in layout.local_volumes.iterdir()] == ["pv1"]
    assert LOCAL_FINALIZER in (await admin.get(PERSISTENT_VOLUMES, "pv1"))["metadata"]["finalizers"]
