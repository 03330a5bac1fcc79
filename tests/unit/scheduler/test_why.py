"""Why a pod is nowhere, and what would help."""

from corral.kinds.types import Key, Obj
from corral.scheduler.filters.unschedulable import CORDONED
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.why import MOST_TOLD, explain
from corral.testing.scheduling import node, pod

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
TERM = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "a"}}}


def why(wanted: Obj, *nodes: Obj) -> Obj:
    snapshot = Snapshot()
    for one in nodes:
        snapshot.put_node(one)
    return explain(snapshot, wanted, scheduler="default-scheduler")


def test_every_machine_says_everything_that_is_wrong() -> None:
    story = why(
        pod("p", cpu="3", memory="1Gi"),
        node("a", cpu="2500m"),
        node("b", cpu="1", taints=["gpu=yes:NoSchedule"], unschedulable=True),
    )
    assert story["message"] == (
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. "
        "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
    assert [machine["name"] for machine in story["machines"]] == ["a", "b"]
    assert story["machines"][0] == {
        "name": "a",
        "fits": False,
        "reasons": ["Insufficient cpu"],
        "missing": {"cpu": "500m"},
    }
    assert len(story["machines"][1]["reasons"]) == 3
    assert story["closest"]["name"] == "a"
    assert story["would_help"] == ["ask for at most 2500m of cpu (no machine has more), or add a machine with 3"]


def test_the_closest_machine_says_how_much_to_free() -> None:
    snapshot = Snapshot()
    for one in (node("a", cpu="4"), node("b", cpu="4")):
        snapshot.put_node(one)
    snapshot.place(Key("", "x"), snapshot.classify(pod("x", cpu="2")), "a")
    snapshot.place(Key("", "y"), snapshot.classify(pod("y", cpu="3")), "b")
    story = explain(snapshot, pod("p", cpu="3"), scheduler="default-scheduler")
    assert story["closest"]["name"] == "a"
    assert story["would_help"] == ["free 1 of cpu on a, or ask for that much less"]


def test_of_many_machines_the_closest_are_told() -> None:
    snapshot = Snapshot()
    for number in range(MOST_TOLD * 3):
        snapshot.put_node(node(f"n{number:03}", cpu="2", labels={"zone": "1"} if number % 2 else {}))
        taken = "500m" if number == 203 else "1"
        snapshot.place(Key("", f"x{number}"), snapshot.classify(pod(f"x{number}", cpu=taken)), f"n{number:03}")
    story = explain(snapshot, pod("p", cpu="1600m", nodeSelector={"zone": "1"}), scheduler="default-scheduler")
    assert story["total"] == MOST_TOLD * 3
    assert len(story["machines"]) == MOST_TOLD
    assert all(machine["reasons"] == ["Insufficient cpu"] for machine in story["machines"])
    assert (story["closest"]["name"], story["closest"]["missing"]) == ("n203", {"cpu": "100m"})


def test_each_obstacle_has_a_remedy() -> None:
    cases = [
        (node("a", unschedulable=True), pod("p"), "kubectl uncordon a"),
        (node("a", taints=["gpu=yes:NoSchedule"]), pod("p"), "{gpu: yes}"),
        (node("a"), pod("p", nodeSelector={"zone": "1"}), "node selector"),
        (node("a", pods="0"), pod("p"), "end a pod on a"),
        (node("a", unschedulable=True, taints=[f"{CORDONED.key}=:NoSchedule"]), pod("p"), "kubectl uncordon a"),
        (node("a"), pod("p", affinity={"podAffinity": {REQUIRED: [TERM]}}), "shares zone with a"),
        (
            node("a"),
            pod("p", topologySpreadConstraints=[TERM | {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]),
            "labels that the spread constraints are about: zone",
        ),
    ]
    for machine, wanted, remedy in cases:
        (text,) = why(wanted, machine)["would_help"]
        assert remedy in text
    assert why(pod("p"))["would_help"] == ["add a machine to the cell"]


def test_rules_between_pods_have_remedies_too() -> None:
    snapshot, there = Snapshot(), pod("x", labels={"app": "a"})
    snapshot.put_node(node("a", labels={"zone": "1"}))
    snapshot.place(Key("default", "x"), snapshot.classify(there), "a")
    apart = pod("p", affinity={"podAntiAffinity": {REQUIRED: [TERM]}})
    (text,) = explain(snapshot, apart, scheduler="default-scheduler")["would_help"]
    assert "end the pods near a" in text
    spread = pod("p", labels={"app": "a"}, topologySpreadConstraints=[TERM | {"maxSkew": 1, "minDomains": 2}])
    (text,) = explain(snapshot, spread, scheduler="default-scheduler")["would_help"]
    assert "raise maxSkew" in text


def test_typos_are_pointed_out() -> None:
    machine = node("a", labels={"disktype": "ssd"}, taints=["dedicated=gpu:NoSchedule"], extra={"nvidia.com/gpu": "1"})
    hints = why(pod("p", nodeSelector={"disk-type": "ssd"}), machine)["hints"]
    assert hints == ["no machine has the label 'disk-type': did you mean 'disktype'?"]
    hints = why(pod("p", nodeSelector={"disktype": "ssdd"}), machine)["hints"]
    assert hints == ["no machine has disktype=ssdd: did you mean 'ssd'?"]
    hints = why(pod("p", nodeSelector={"disktype": "tape"}), machine)["hints"]
    assert hints == ["no machine has disktype=tape; there are: ssd"]
    term = {"matchExpressions": [{"key": "disktype", "operator": "In", "values": ["sdd", "ssds"]}]}
    affinity = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}
    hints = why(pod("p", affinity=affinity), machine)["hints"]
    assert hints == ["no machine has disktype=sdd: did you mean 'ssd'?"]
    hints = why(pod("p", tolerations=[{"key": "dedicatd", "operator": "Exists"}]), machine)["hints"]
    assert hints == ["no machine has the taint 'dedicatd': did you mean 'dedicated'?"]
    builtin = [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}]
    cordoned = node("a", taints=["node.kubernetes.io/unschedulable=:NoSchedule"])
    assert why(pod("p", tolerations=builtin), cordoned)["hints"] == []
    hints = why(pod("p", requests={"nvidia.com/gpus": "1"}), machine)["hints"]
    assert hints == ["no machine offers the resource 'nvidia.com/gpus': did you mean 'nvidia.com/gpu'?"]


def test_what_holds_a_pod_back_that_would_fit() -> None:
    story = why(pod("p", schedulingGates=[{"name": "example.com/quota"}]), node("a"))
    assert story["message"] == "the pod waits for its scheduling gates to be removed: example.com/quota"
    assert story["hints"] == []
    assert story["machines"][0]["fits"]
    story = why(pod("p", schedulerName="other"), node("a"))
    assert "asks for the scheduler 'other'" in story["message"]
    assert "about to be assigned" in why(pod("p"), node("a"))["message"]


def test_a_placed_pod_says_where() -> None:
    story = why(pod("p", node_name="a"), node("a"))
    assert (story["scheduled"], story["node"], story["message"]) == (True, "a", "assigned to a")
