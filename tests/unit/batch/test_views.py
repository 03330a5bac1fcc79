"""From objects to states, from decisions to statuses, and what is said of queues to people."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from corral.base.clock import rfc3339
from corral.batch import workloads
from corral.batch.admission import admit, tree_of
from corral.batch.eta import Finish, throughput
from corral.batch.model import FlavorResource, Preemption, Quota
from corral.batch.pending import cluster_queue, finish_of, local_queue
from corral.batch.report import Crowds, cluster_queue_status, local_queue_status
from corral.batch.views import Objects, World, read_queue, usage_of
from corral.cli.queue import item_words, queue_words, table
from corral.kinds import conditions
from corral.kinds.types import Key, Obj

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CPU, MEMORY = FlavorResource("any", "cpu"), FlavorResource("any", "memory")


def flavor(name: str = "any", **spec: Any) -> Obj:
    return {"metadata": {"name": name}, "spec": spec}


def cluster(name: str = "cq", cpu: str = "4", **spec: Any) -> Obj:
    quotas = [{"name": "cpu", "nominalQuota": cpu}, {"name": "memory", "nominalQuota": "8Gi"}]
    group = {"coveredResources": ["cpu", "memory"], "flavors": [{"name": "any", "resources": quotas}]}
    return {"metadata": {"name": name}, "spec": {"namespaceSelector": {}, "resourceGroups": [group], **spec}}


def local(name: str = "lq", queue: str = "cq", namespace: str = "default", **spec: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterQueue": queue, **spec}}


def workload(name: str, cpu: str = "1", *, count: int = 1, at: int = 0, namespace: str = "default", **spec: Any) -> Obj:
    container = {"name": "main", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}
    owner = {"kind": "Job", "name": name, "uid": f"job-{name}"}
    return {
        "metadata": {
            "name": f"job-{name}",
            "namespace": namespace,
            "uid": name,
            "resourceVersion": "1",
            "creationTimestamp": rfc3339(NOW + timedelta(seconds=at)),
            "ownerReferences": [owner],
        },
        "spec": {
            "queueName": "lq",
            "podSets": [{"name": "main", "count": count, "template": {"spec": {"containers": [container]}}}],
            **spec,
        },
    }


def world(*objects: Obj, flavors: tuple[Obj, ...] = (flavor(),), queues: tuple[Obj, ...] = (), **more: Any) -> World:
    locals_ = more.get("locals_", (local(),))
    namespaces = [{"metadata": {"name": name, "labels": {"team": name}}} for name in ("default", "other")]
    return World(Objects(flavors, (), queues or (cluster(),), locals_, namespaces, objects))


def running(obj: Obj, at: datetime = NOW, queue: str = "cq") -> Obj:
    """The Workload with what admission decides of it alone."""
    made = admit(
        world(obj, queues=(cluster(queue),), locals_=(local("lq", queue, obj["metadata"]["namespace"]),)).state, at
    )
    return {**obj, "status": workloads.reserved(obj, made.admit[0], at)}


def ended(obj: Obj, at: datetime) -> Obj:
    return {**obj, "status": workloads.finished(obj, "Succeeded", "done", at)}


def test_a_cluster_queue_is_read_whole() -> None:
    obj = cluster(
        "cq",
        cohortName="all",
        queueingStrategy="StrictFIFO",
        preemption={
            "withinClusterQueue": "LowerPriority",
            "reclaimWithinCohort": "Any",
            "borrowWithinCohort": {"policy": "LowerPriority", "maxPriorityThreshold": 5},
        },
        flavorFungibility={"whenCanBorrow": "TryNextFlavor", "whenCanPreempt": "MayStopSearch"},
        fairSharing={"weight": "1500m"},
    )
    read = read_queue(obj, {"any": flavor()})
    assert read.quotas == {CPU: Quota(4000), MEMORY: Quota(8 * 2**30)}
    assert (read.cohort, read.strict, read.weight, read.closed) == ("all", True, 1.5, "")
    assert read.preemption == Preemption("LowerPriority", "Any", True, 5)
    assert (read.borrow_stops, read.preempt_stops) == (False, True)


@pytest.mark.parametrize(
    ("queue", "flavors", "reason"),
    [
        (cluster(stopPolicy="Hold"), (flavor(),), "Stopped"),
        (cluster(), (), "FlavorNotFound"),
        (cluster(), (flavor(topologyName="racks"),), "TopologyNotFound"),
        (cluster(admissionChecksStrategy={"admissionChecks": [{"name": "x"}]}), (flavor(),), "AdmissionCheckNotFound"),
        (cluster(), (flavor(),), ""),
    ],
)
def test_what_a_cell_cannot_do_closes_the_queue(queue: Obj, flavors: tuple[Obj, ...], reason: str) -> None:
    seen = world(workload("a"), queues=(queue,), flavors=flavors)
    why = seen.closed("cq")
    assert (why.reason if why else "") == reason
    assert bool(admit(seen.state, NOW).admit) is not bool(reason)
    status = cluster_queue_status(queue, seen, tree_of(seen.state), Crowds(seen), NOW)
    assert conditions.is_true({"status": status}, "Active") is not bool(reason)


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (world(workload("a"), locals_=()), "LocalQueue lq doesn't exist"),
        (world(workload("a"), locals_=(local(stopPolicy="Hold"),)), "LocalQueue lq is inactive"),
        (world(workload("a"), locals_=(local("lq", "none"),)), "ClusterQueue none doesn't exist"),
        (world(workload("a"), queues=(cluster(stopPolicy="Hold"),)), "ClusterQueue cq is inactive"),
        (world(workload("a", active=False)), "The workload is deactivated"),
        (
            world(workload("a"), queues=(cluster(namespaceSelector={"matchLabels": {"team": "other"}}),)),
            "Workload namespace doesn't match ClusterQueue selector",
        ),
        (world({**workload("a"), "spec": {**workload("a", "many")["spec"]}}), "The workload cannot be read: "),
    ],
)
def test_what_keeps_a_workload_out_is_said(seen: World, message: str) -> None:
    assert seen.state.waiting[0].closed.startswith(message)
    assert admit(seen.state, NOW).admit == ()


def test_quota_is_given_in_the_words_of_kueue_and_counted_as_it_is_held() -> None:
    held = running(workload("a", "500m", count=3))
    assert held["status"]["admission"]["podSetAssignments"] == [
        {
            "name": "main",
            "count": 3,
            "flavors": {"cpu": "any", "memory": "any"},
            "resourceUsage": {"cpu": "1500m", "memory": "3Gi"},
        }
    ]
    assert usage_of(held) == {CPU: 1500, MEMORY: 3 * 2**30}
    held["status"]["reclaimablePods"] = [{"name": "main", "count": 2}]
    assert usage_of(held) == {CPU: 500, MEMORY: 2**30}


def test_the_way_of_a_preempted_workload() -> None:
    first = running(workload("low"))
    told = {**first, "status": workloads.preempted(first, workload("high"), "InClusterQueue", NOW)}
    assert (conditions.get(told, "Preempted") or {})["message"] == (
        "Preempted to accommodate a workload (UID: high) due to prioritization in the ClusterQueue"
    )
    later = NOW + timedelta(seconds=30)
    waits = []
    for _ in range(3):
        freed = {**told, "status": workloads.released(told, later)}
        waits.append(freed["status"]["requeueState"]["requeueAt"])
        again = {**freed, "status": {**freed["status"], "admission": told["status"]["admission"]}}
        told = {**again, "status": workloads.preempted(again, workload("high"), "InClusterQueue", later)}
    assert waits == [rfc3339(later + timedelta(seconds=seconds)) for seconds in (0, 1, 2)]
    assert "admission" not in freed["status"]
    assert freed["status"]["accumulatedPastExecutionTimeSeconds"] == 30
    assert [conditions.is_true(freed, kind) for kind in ("QuotaReserved", "Admitted", "Requeued")] == [
        False,
        False,
        True,
    ]


def test_whoever_preempted_goes_first_until_it_has_had_quota() -> None:
    low = running(workload("low"))
    told = {**low, "status": workloads.preempted(low, workload("high"), "InClusterQueue", NOW)}
    high = workload("high")
    high["status"] = workloads.pending(high, "Pending", "no room", NOW - timedelta(seconds=5))
    assert world(told, high).state.waiting[0].first
    late = {**high, "status": workloads.pending(running(high), "Pending", "stopped", NOW + timedelta(seconds=9))}
    late["status"].pop("admission")
    assert not world(told, late).state.waiting[0].first


def test_queues_say_what_they_hold() -> None:
    seen = world(running(workload("a", "2")), workload("b", "3"), queues=(cluster(cohortName="all"),))
    crowds = Crowds(seen)
    status = cluster_queue_status(cluster(cohortName="all"), seen, tree_of(seen.state), crowds, NOW)
    assert (status["pendingWorkloads"], status["reservingWorkloads"], status["admittedWorkloads"]) == (1, 1, 1)
    assert status["flavorsUsage"][0]["resources"][0] == {"name": "cpu", "total": "2", "borrowed": "0"}
    assert status["fairSharing"] == {"weightedShare": 0}
    said = local_queue_status(local(), seen, crowds, NOW)
    assert (said["pendingWorkloads"], said["admittedWorkloads"]) == (1, 1)
    assert conditions.is_true({"status": said}, "Active")


def finishes(*seconds: int, cpu: int = 1000) -> list[Finish]:
    return [Finish(NOW - timedelta(seconds=ago), "cq", {CPU: cpu}) for ago in seconds]


def test_the_rate_is_of_shares_over_time_and_falls_while_nothing_ends() -> None:
    tree = tree_of(world().state)
    assert not throughput(finishes(10, 5), "cq", tree, NOW).known
    seen = throughput(finishes(30, 20, 10), "cq", tree, NOW)
    # Two workloads of a quarter of the queue each, in the 30 seconds since the first ended.
    assert seen.known
    assert seen.shares == pytest.approx(0.5 / 30)
    assert throughput(finishes(30, 20, 10), "cq", tree, NOW + timedelta(seconds=30)).shares == pytest.approx(0.5 / 60)
    assert throughput(finishes(30, 20, 10, cpu=2000), "cq", tree, NOW).shares == pytest.approx(1.0 / 30)


def test_an_estimate_is_what_must_come_back_over_the_rate() -> None:
    held = [running(workload(f"r{n}", "1", at=n)) for n in range(4)]
    seen = world(*held, workload("w0", "1", at=10), workload("w1", "2", at=11), workload("huge", "9", at=12))
    answer = cluster_queue(seen, "cq", finishes(40, 20, 0), NOW)
    assert answer is not None
    # A quarter of the queue comes back each 20 seconds: w0 needs one quarter, w1 two more.
    assert [item["eta"] for item in answer["items"]] == [20, 60, None]
    assert [item["never"] for item in answer["items"]] == [False, False, True]
    assert answer["items"][2]["why"] == "needs 9 cpu of flavor any: more than the queue ever has, 4"
    assert answer["items"][1]["ahead"] == ["default/job/w0"]
    unknown = cluster_queue(seen, "cq", finishes(40), NOW)
    assert unknown is not None
    assert [item["eta"] for item in unknown["items"]] == [None, None, None]


def test_a_namespace_learns_its_own_names_only() -> None:
    seen = world(
        *(running(workload(f"r{n}", "2", at=n)) for n in range(2)),
        workload("theirs", at=1, namespace="other"),
        workload("mine", at=2),
        locals_=(local(), local(namespace="other")),
    )
    answer = local_queue(seen, Key("default", "lq"), [], NOW)
    assert answer is not None
    assert (answer["kind"], answer["name"]) == ("LocalQueue", "lq")
    (item,) = answer["items"]
    assert (item["owner"], item["position"], item["positionInLocalQueue"]) == ("job/mine", 1, 0)
    assert (item["ahead"], item["aheadElsewhere"]) == ([], 1)
    assert "theirs" not in str(answer)
    assert local_queue(seen, Key("default", "none"), [], NOW) is None


def test_a_strict_queue_says_behind_whom() -> None:
    seen = world(workload("big", "9"), workload("small", at=1), queues=(cluster(queueingStrategy="StrictFIFO"),))
    answer = cluster_queue(seen, "cq", [], NOW)
    assert answer is not None
    assert answer["items"][1]["why"] == "waits behind job-big: the queue is StrictFIFO"


def test_what_ended_is_remembered_with_what_it_held() -> None:
    obj = ended(running(workload("a", "2")), NOW)
    assert finish_of(obj) == Finish(NOW, "cq", {CPU: 2000, MEMORY: 2**30})
    assert finish_of(ended(workload("never"), NOW)) is None


def test_the_words_for_people() -> None:
    held = running(workload("r", "4"), NOW - timedelta(minutes=3))
    seen = world(held, workload("w", "1", at=-60))
    answer = local_queue(seen, Key("default", "lq"), finishes(40, 20, 0), NOW)
    assert answer is not None
    assert table([answer], everywhere=False, wide=False).splitlines()[1].split() == [
        *("lq", "cq", "cpu", "4/4,", "memory", "1Gi/8Gi", "-", "1", "1", "~20s")
    ]
    text = "\n".join(queue_words(answer, wide=False, now=NOW))
    assert text.startswith("localqueue/lq in namespace default, ClusterQueue cq, BestEffortFIFO\n")
    assert "estimates rest on the last 3 that ended, in 40s" in text
    assert item_words("job/w", answer, answer["items"][0], now=NOW) == [
        "job/w waits in localqueue/lq (ClusterQueue cq): position 1",
        "  needs 1 cpu of flavor any: quota 4, used 4, free 0",
        "  ahead: nobody",
        "  turn in: ~20s (estimates rest on the last 3 that ended, in 40s)",
    ]
    assert item_words("job/r", answer, answer["admitted"][0], now=NOW)[0] == (
        "job/r was admitted by localqueue/lq (ClusterQueue cq) 3m ago"
    )


def test_a_template_gets_what_its_flavors_have() -> None:
    spec = {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "x"}]}
    flavors = {"any": flavor(nodeLabels={"type": "spot"}, tolerations=[{"key": "x"}, {"key": "y"}])}
    bound = workloads.bind_template(spec, {"flavors": {"cpu": "any", "memory": "any"}}, flavors)
    assert bound == {"nodeSelector": {"a": "b", "type": "spot"}, "tolerations": [{"key": "x"}, {"key": "y"}]}
    assert workloads.bind_template({}, {"flavors": {"cpu": "any"}}, {}) == {}


def test_priorities_come_from_the_label_the_class_or_the_default() -> None:
    classes = [
        {"metadata": {"name": "high"}, "value": 10},
        {"metadata": {"name": "usual"}, "value": 3, "globalDefault": True},
    ]
    known: dict[str, Obj] = {"urgent": {"metadata": {"name": "urgent"}, "value": 99}}
    labelled = {"metadata": {"labels": {"kueue.x-k8s.io/priority-class": "urgent"}}}
    plain: Obj = {"metadata": {}}
    assert workloads.priority_of(labelled, {}, known.get, classes)[0] == 99
    assert workloads.priority_of(plain, {"priorityClassName": "high"}, known.get, classes)[0] == 10
    assert workloads.priority_of(plain, {}, known.get, classes)[0] == 3
    assert workloads.priority_of(plain, {}, known.get, []) == (0, None)
    with pytest.raises(LookupError, match="PriorityClass none does not exist"):
        workloads.priority_of(plain, {"priorityClassName": "none"}, known.get, classes)
