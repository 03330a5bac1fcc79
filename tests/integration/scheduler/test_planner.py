"""`corral plan` against the real API: admitted like the real thing, placed like the real thing, and nothing created."""

import asyncio

import pytest

from corral.apiserver.auth.api import User
from corral.apiserver.inprocess import InProcessTransport
from corral.client.client import Client
from corral.kinds.owners import controller_reference
from corral.kinds.podgroups import LABEL
from corral.kinds.resources import (
    COSCHEDULING_POD_GROUPS,
    DEPLOYMENTS,
    POD_GROUPS,
    PODS,
    PRIORITY_CLASSES,
    REPLICA_SETS,
    STORAGE_CLASSES,
)
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.scheduler import planner
from corral.scheduler.planner import Planner
from corral.testing.scheduling import node, pod
from corral.testing.scheduling_cell import Cell
from corral.testing.storage import claim, storage_class


def workload(
    kind: str, name: str, *, cpu: str = "1", api: str = "apps/v1", spec: Obj | None = None, **more: object
) -> Obj:
    labels = {"app": name}
    inner = {"containers": [{"name": "c", "image": "host", "resources": {"requests": {"cpu": cpu}}}], **more}
    template = {"metadata": {"labels": labels}, "spec": inner}
    body = {"selector": {"matchLabels": labels}, "template": template, **(spec or {})}
    return {"kind": kind, "apiVersion": api, "metadata": {"name": name}, "spec": body}


def job(name: str, **spec: object) -> Obj:
    made = workload("Job", name, api="batch/v1", spec=spec)
    del made["spec"]["selector"]
    made["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    return made


def in_default(obj: Obj) -> Obj:
    return {**obj, "metadata": {**obj["metadata"], "namespace": "default"}}


async def plan_of(cell: Cell, *objects: Obj, user: User | None = None) -> Obj:
    """The plan; the cell has the same revision afterwards."""
    scheduler = await cell.schedule()
    await scheduler.synced.wait()
    before = cell.server.core.store.revision
    asker = Client(InProcessTransport(cell.server, user)) if user is not None else cell.client
    try:
        return await Planner(scheduler, cell.client).plan(objects, "default", asker)
    finally:
        assert cell.server.core.store.revision == before


async def test_each_kind_of_workload_is_placed_and_nothing_is_created(cell: Cell) -> None:
    await cell.add(*(node(name, cpu="8") for name in ("a", "b", "c")))
    cron = {"schedule": "@daily", "jobTemplate": {"spec": job("x", parallelism=3)["spec"]}}
    answer = await plan_of(
        cell,
        workload("Deployment", "web", spec={"replicas": 4}),
        workload("StatefulSet", "db", spec={"replicas": 2, "serviceName": "db", "ordinals": {"start": 5}}),
        workload("ReplicaSet", "rs"),
        workload("DaemonSet", "agent", cpu="100m"),
        job("sums", parallelism=5, completions=2, completionMode="Indexed"),
        {"kind": "CronJob", "apiVersion": "batch/v1", "metadata": {"name": "night"}, "spec": cron},
        pod("one"),
    )
    assert answer["fits"]
    found = {f"{one['kind']}/{one['name']}": one for one in answer["workloads"]}
    counts = {title: (one["placed"], one["pods"]) for title, one in found.items()}
    assert counts == {
        "Deployment/web": (4, 4),
        "StatefulSet/db": (2, 2),
        "ReplicaSet/rs": (1, 1),
        "DaemonSet/agent": (3, 3),
        "Job/sums": (2, 2),
        "CronJob/night": (3, 3),
        "Pod/one": (1, 1),
    }
    assert found["DaemonSet/agent"]["machines"] == {"a": 1, "b": 1, "c": 1}
    assert {each["pod"] for each in found["StatefulSet/db"]["assignments"]} == {"db-5", "db-6"}
    assert sum(found["Deployment/web"]["machines"].values()) == 4


async def test_what_does_not_fit_says_why_and_what_would_help(cell: Cell) -> None:
    await cell.add(node("a", cpu="2", labels={"disk": "ssd"}), node("b", cpu="1", labels={"disk": "hdd"}))
    answer = await plan_of(
        cell,
        workload("Deployment", "web", spec={"replicas": 4}),
        workload("Deployment", "typo", nodeSelector={"dsk": "ssd"}),
    )
    assert not answer["fits"]
    web, typo = answer["workloads"]
    assert (web["placed"], web["machines"]) == (3, {"a": 2, "b": 1})
    (refused,) = web["refused"]
    assert refused["pods"] == ["web-3"]
    assert refused["message"].startswith("0/2 nodes are available: 2 Insufficient cpu.")
    assert refused["closest"]["missing"] == {"cpu": "1"}
    assert typo["refused"][0]["hints"] == ["no machine has the label 'dsk': did you mean 'disk'?"]


async def test_rules_between_the_pods_of_one_plan_hold(cell: Cell) -> None:
    await cell.add(*(node(name, labels={"zone": name}) for name in ("a", "b", "c")))
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    answer = await plan_of(
        cell,
        # The one that seeks comes first, and finds what it seeks once that is placed.
        workload("Deployment", "web", affinity={"podAffinity": {required: [term]}}),
        workload("Deployment", "db", spec={"replicas": 4}, affinity={"podAntiAffinity": {required: [term]}}),
    )
    web, db = answer["workloads"]
    assert db["machines"] == {"a": 1, "b": 1, "c": 1}
    assert len(db["refused"][0]["pods"]) == 1
    assert web["placed"] == 1


async def test_a_more_important_workload_names_who_would_have_to_go(cell: Cell) -> None:
    high = {"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": "high"}, "value": 1000}
    await cell.client.create(PRIORITY_CLASSES, high)
    await cell.add(node("a", cpu="2"), pod("low-1", cpu="1", nodeName="a"), pod("low-2", cpu="1", nodeName="a"))
    urgent = workload("Deployment", "urgent", spec={"replicas": 3}, priorityClassName="high")
    answer = await plan_of(cell, urgent)
    (one,) = answer["workloads"]
    assert one["placed"] == 2
    victims = [victim for each in one["assignments"] for victim in each["preempts"]]
    assert sorted(victims) == ["default/low-1", "default/low-2"]
    assert [refused["pods"] for refused in one["refused"]] == [["urgent-2"]]


async def test_refusals_are_those_of_a_real_create(cell: Cell) -> None:
    await cell.add(node("a"))
    bad = workload("Deployment", "bad", spec={"replicas": -1, "replcas": 1})
    unknown = workload("Deployment", "lost", priorityClassName="none")
    old = workload("Deployment", "old", api="extensions/v1beta1")
    with pytest.raises(StatusError) as refused:
        await plan_of(cell, bad, workload("Deployment", "good"), unknown, old)
    told = {cause.field: cause.message for cause in refused.value.causes}
    assert 'unknown field "spec.replcas"' in told["items[0]"]
    assert "its pods would be refused" in told["items[2]"]
    assert "no PriorityClass with name none was found" in told["items[2]"]
    assert "cannot plan extensions/v1beta1 Deployment" in told["items[3]"]
    assert "items[1]" not in told
    del bad["spec"]["replcas"]
    with pytest.raises(StatusError, match=r"spec\.replicas: Invalid value"):
        await plan_of(cell, bad)


async def test_who_may_not_create_may_not_plan(cell: Cell) -> None:
    await cell.add(node("a"))
    with pytest.raises(StatusError, match='User "eve" cannot create resource "deployments"'):
        await plan_of(cell, workload("Deployment", "web"), user=User("eve", ("system:authenticated",)))


async def test_a_huge_plan_lets_others_have_their_turn(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    await cell.add(*(node(f"n{number}", cpu="100", pods="1000") for number in range(5)))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    answer = await plan_of(cell, workload("Deployment", "web", cpu="10m", spec={"replicas": 2000}))
    counting.cancel()
    assert answer["workloads"][0]["placed"] == 2000
    assert turns >= 2000 / planner.STEP
    monkeypatch.setattr(planner, "MOST_PODS", 100)
    with pytest.raises(StatusError, match="cannot plan more than 100 pods at once"):
        await plan_of(cell, workload("Deployment", "web", spec={"replicas": 101}))


async def test_pods_that_no_scheduler_here_looks_at_say_so(cell: Cell) -> None:
    await cell.add(node("a"))
    answer = await plan_of(cell, workload("Deployment", "web", schedulerName="mine"), pod("one"))
    web, one = answer["workloads"]
    assert not answer["fits"]
    assert (web["placed"], one["placed"]) == (0, 1)
    assert web["refused"][0]["message"].startswith("the pod asks for the scheduler 'mine'; this cell's answers to def")


async def test_of_what_is_there_already_only_the_difference_is_planned(cell: Cell) -> None:
    await cell.add(node("a", cpu="4"))
    made = await cell.client.create(DEPLOYMENTS, in_default(workload("Deployment", "web", spec={"replicas": 2})))
    replicas = in_default(workload("ReplicaSet", "web-1"))
    replicas["metadata"]["ownerReferences"] = [controller_reference(made)]
    owner = controller_reference(await cell.client.create(REPLICA_SETS, replicas))
    for number in range(2):
        there = pod(f"web-{number}", cpu="1", nodeName="a", labels={"app": "web"})
        there["metadata"]["ownerReferences"] = [owner]
        await cell.add(there)
    same = workload("Deployment", "web", spec={"replicas": 4})
    (one,) = (await plan_of(cell, same))["workloads"]
    assert (one["placed"], one["pods"]) == (2, 2)
    assert one["notes"] == ["2 pods are of it there already and would stay: only what it lacks is planned"]
    larger = workload("Deployment", "web", cpu="2", spec={"replicas": 2})
    answer = await plan_of(cell, larger)
    assert answer["workloads"][0]["placed"] == 2
    assert "would be replaced" in answer["workloads"][0]["notes"][0]
    larger["spec"]["replicas"] = 3
    assert not (await plan_of(cell, larger))["fits"]
    larger["spec"]["selector"]["matchLabels"] = larger["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    with pytest.raises(StatusError, match="field is immutable"):
        await plan_of(cell, larger)
    (one,) = (await plan_of(cell, await cell.client.get(PODS, "web-0", "default")))["workloads"]
    assert one["pods"] == 0


def companion(kind: str, name: str, api: str = "v1", **more: object) -> Obj:
    return {"kind": kind, "apiVersion": api, "metadata": {"name": name}, **more}


async def test_what_pods_lean_on_may_be_in_the_same_file(cell: Cell) -> None:
    await cell.add(node("a", cpu="2"), pod("low", cpu="2", nodeName="a"))
    await cell.client.create(DEPLOYMENTS, in_default(workload("Deployment", "web")))
    account = companion("ServiceAccount", "runner")
    web = workload("Deployment", "web", priorityClassName="urgent", serviceAccountName="runner")
    for obj in (account, web):
        obj["metadata"]["namespace"] = "shop"
    urgent = companion("PriorityClass", "urgent", "scheduling.k8s.io/v1", value=5000)
    # Pods of the new namespace are chosen by rules for that namespace.
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app": "web"}},
        "namespaces": ["shop"],
    }
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    loner = workload("Deployment", "loner", cpu="10m", affinity={"podAntiAffinity": {required: [term]}})
    answer = await plan_of(cell, loner, web, account, companion("Namespace", "shop"), urgent)
    found = {one["name"]: one for one in answer["workloads"]}
    assert (found["web"]["namespace"], found["web"]["machines"]) == ("shop", {"a": 1})
    assert found["web"]["assignments"] == [{"pod": "web-0", "node": "a", "preempts": ["default/low"]}]
    assert found["loner"]["refused"]
    with pytest.raises(StatusError, match='namespaces "shop" not found'):
        await plan_of(cell, web)
    bad = companion("PriorityClass", "bad", "scheduling.k8s.io/v1", value="much")
    with pytest.raises(StatusError, match=r"items\[0\]"):
        await plan_of(cell, bad, web)
    with pytest.raises(StatusError, match='User "eve" cannot get resource "namespaces"'):
        await plan_of(cell, companion("Namespace", "shop"), user=User("eve", ("system:authenticated",)))


async def test_suspended_and_gated_workloads_say_so(cell: Cell) -> None:
    await cell.add(node("a"))
    gated = workload("Deployment", "gated", schedulingGates=[{"name": "example.com/wait"}])
    queued = job("queued", suspend=True)
    queued["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team-a"}
    answer = await plan_of(cell, job("later", suspend=True), gated, queued)
    later, waits, queued = answer["workloads"]
    assert queued["notes"] == ["it goes through the queue team-a: this is where its pods go once that admits it"]
    assert later["notes"] == ["it is suspended: this is where its pods go once it is resumed"]
    assert "example.com/wait" in waits["notes"][0]
    assert answer["fits"]


async def test_gangs_are_planned_whole(cell: Cell) -> None:
    await cell.add(node("a", cpu="2"), node("b", cpu="2"))
    own = job("own", parallelism=3, completions=3)
    own["spec"]["template"]["spec"]["schedulingGroup"] = {"podGroupName": "own"}
    joined = job("joined", parallelism=3, completions=3)
    joined["spec"]["template"]["metadata"]["labels"][LABEL] = "shared"
    lost = job("lost", parallelism=1)
    lost["spec"]["template"]["spec"]["schedulingGroup"] = {"podGroupName": "none"}
    kind = {"kind": "PodGroup", "apiVersion": COSCHEDULING_POD_GROUPS.api_version, "metadata": {"name": "shared"}}
    # That the group is there already, with another minimum, changes nothing.
    there = {**kind, "metadata": {"name": "shared", "namespace": "default"}, "spec": {"minMember": 1}}
    await cell.client.create(COSCHEDULING_POD_GROUPS, there)
    answer = await plan_of(cell, own, joined, lost, {**kind, "spec": {"minMember": 3}})
    assert [(one["name"], one["placed"], one["pods"]) for one in answer["workloads"]] == [
        ("own", 3, 3),
        ("joined", 0, 3),
        ("lost", 0, 1),
    ]
    assert [refusal["message"] for one in answer["workloads"] for refusal in one["refused"]] == [
        "pod group shared: only 1 of 3 members fit: 0/2 nodes are available: 2 Insufficient cpu.",
        "pod group none does not exist",
    ]
    assert not answer["fits"]


async def test_a_bad_group_is_refused_by_its_place(cell: Cell) -> None:
    kind = {"kind": "PodGroup", "apiVersion": POD_GROUPS.api_version, "metadata": {"name": "g"}}
    with pytest.raises(StatusError) as caught:
        await plan_of(cell, pod("p"), {**kind, "spec": {"schedulingPolicy": {}}})
    assert [cause.field for cause in caught.value.causes] == ["items[1]"]


async def test_claims_that_come_with_the_pods_are_there_for_the_plan(cell: Cell) -> None:
    await cell.add(node("a"))
    await cell.client.create(STORAGE_CLASSES, storage_class("made", provisioner="example.com/disks"))
    wanted = pod("one", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])
    answer = await plan_of(cell, wanted)
    assert 'persistentvolumeclaim "c" not found' in answer["workloads"][0]["refused"][0]["message"]
    asked = claim("c", storage="made")
    del asked["metadata"]["uid"], asked["status"]
    assert (await plan_of(cell, wanted, asked))["fits"]
    template = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    own = pod("two", volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}])
    assert (await plan_of(cell, own))["fits"]
