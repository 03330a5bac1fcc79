"""Claims, volumes and classes of storage: where they let a pod go, in Kubernetes' words, and what is assumed."""

import random
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.kinds.storage import read_claim, read_class, read_volume
from corral.kinds.types import Key, Obj, key_of
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.filters.volumes import VolumeBinding, VolumeUse
from corral.scheduler.plan import Bind, Pending, Refuse, assign, plan
from corral.scheduler.profile import SPREADING
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.volumes import Binding, read_limits
from corral.scheduler.why import explain
from corral.testing.scheduling import node, pod
from corral.testing.storage import claim, storage_class, volume

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BINDING = VolumeBinding()
USE = VolumeUse()
CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
NONE_FOUND = "node(s) didn't find available persistent volumes to bind"
FAST = storage_class("fast")
MADE = storage_class("made", provisioner="example.com/disks")
HELPLESS = "preemption: 0/{0} nodes are available: {0} Preemption is not helpful for scheduling."


def cell(*objects: Obj) -> Snapshot:
    snapshot = Snapshot()
    for obj in objects:
        put(snapshot, obj)
    return snapshot


def put(snapshot: Snapshot, obj: Obj) -> None:
    volumes, key = snapshot.volumes, key_of(obj)
    match obj["kind"]:
        case "Node":
            snapshot.put_node(obj)
        case "PersistentVolumeClaim":
            volumes.put_claim(key, read_claim(obj))
        case "PersistentVolume":
            volumes.put_volume(key.name, read_volume(obj))
        case "StorageClass":
            volumes.put_class(key.name, read_class(obj))
        case "Pod":
            snapshot.place(key, snapshot.classify(obj, placed=True), obj["spec"]["nodeName"])


def user(name: str, *claims: str, **more: object) -> Obj:
    """A pod that uses claims."""
    volumes = [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in claims]
    return pod(name, volumes=volumes, **more)  # type: ignore[arg-type]


def verdicts(snapshot: Snapshot, wanted: Obj, rule: VolumeBinding | VolumeUse = BINDING) -> dict[str, list[str]]:
    """Each machine's reasons; checks that judging all machines at once agrees with judging them one by one."""
    pod_class = snapshot.classify(wanted)
    mask = rule.passes(snapshot, pod_class)
    found = {snapshot.machine(row).name: rule.explain(snapshot, pod_class, row) for row in snapshot.rows()}
    refused = [row for row in snapshot.rows() if found[snapshot.machine(row).name]]
    assert refused == [row for row in snapshot.rows() if mask is not None and not mask[row]]
    counted: dict[str, int] = {}
    for reasons in found.values():
        for reason in reasons:
            counted[reason] = counted.get(reason, 0) + 1
    assert not refused or dict(rule.tally(snapshot, pod_class, np.array(refused, dtype=np.intp))) == counted
    return found


def refusal(snapshot: Snapshot, wanted: Obj) -> str:
    (decision,) = plan(snapshot, [Pending(key_of(wanted), snapshot.classify(wanted))], NOW, random.Random(1))
    assert isinstance(decision, Refuse)
    return decision.message


def test_a_pod_without_claims_is_not_concerned() -> None:
    snapshot = cell(node("a"))
    pod_class = snapshot.classify(pod("p", volumes=[{"name": "x", "emptyDir": {}}]))
    assert pod_class is snapshot.classify(pod("q"))
    assert BINDING.passes(snapshot, pod_class) is None
    assert USE.passes(snapshot, pod_class) is None


DELETING = claim("c")
DELETING["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
LOST = claim("c", volume="v", bound=True)
LOST["status"] = {"phase": "Lost"}


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        ([], 'persistentvolumeclaim "c" not found'),
        ([DELETING], 'persistentvolumeclaim "c" is being deleted'),
        ([LOST], 'persistentvolumeclaim "c" bound to non-existent persistentvolume "v"'),
        ([claim("c")], "pod has unbound immediate PersistentVolumeClaims"),
        ([claim("c", storage="")], "pod has unbound immediate PersistentVolumeClaims"),
        ([storage_class("fast", delayed=False), claim("c")], "pod has unbound immediate PersistentVolumeClaims"),
        ([FAST, claim("c", volume="v")], "pod has unbound immediate PersistentVolumeClaims"),
    ],
)
def test_a_claim_that_no_machine_can_help(objects: list[Obj], why: str) -> None:
    snapshot = cell(node("a"), node("b"), *objects)
    assert verdicts(snapshot, user("p", "c")) == {"a": [why], "b": [why]}
    assert refusal(snapshot, user("p", "c")) == f"0/2 nodes are available: {why}. {HELPLESS.format(2)}"


def test_the_claim_of_an_ephemeral_volume_is_made_by_a_controller_for_this_very_pod() -> None:
    wanted = pod("p", volumes=[{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}}])
    waiting = 'waiting for ephemeral volume controller to create the persistentvolumeclaim "p-scratch"'
    assert refusal(cell(node("a")), wanted) == f"0/1 nodes are available: {waiting}. {HELPLESS.format(1)}"
    stranger = claim("p-scratch", volume="v", bound=True)
    why = "PVC default/p-scratch was not created for pod default/p (pod is not owner)"
    assert refusal(cell(node("a"), stranger), wanted) == f"0/1 nodes are available: {why}. {HELPLESS.format(1)}"
    stranger["metadata"]["ownerReferences"] = [{"uid": "uid-p", "controller": True}]
    assert verdicts(cell(node("a"), stranger, volume("v", of="p-scratch")), wanted) == {"a": []}


def test_a_bound_claim_ties_the_pod_to_where_its_volume_is() -> None:
    snapshot = cell(node("a"), node("b"), volume("v", on="b", of="c"), claim("c", volume="v", bound=True))
    assert verdicts(snapshot, user("p", "c")) == {"a": [CONFLICT], "b": []}
    assert refusal(cell(node("a"), *[volume("v", on="x", of="c"), claim("c", volume="v", bound=True)]), user("p", "c"))
    put(snapshot, claim("d", volume="gone", bound=True))
    gone = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
    assert verdicts(snapshot, user("p", "c", "d")) == {"a": [CONFLICT, gone], "b": [gone]}


def test_zones_in_the_labels_of_a_volume_hold() -> None:
    zoned = volume("v", of="c", labels={"topology.kubernetes.io/zone": "z1__z2"})
    machines = [node(name, labels={"topology.kubernetes.io/zone": name}) for name in ("z1", "z2", "z3")]
    snapshot = cell(*machines, node("nowhere"), zoned, claim("c", volume="v", bound=True))
    why = ["node(s) had no available volume zone"]
    assert verdicts(snapshot, user("p", "c")) == {"z1": [], "z2": [], "z3": why, "nowhere": []}


@pytest.mark.parametrize(
    ("offered", "asked", "fits"),
    [
        (volume("v", on="a"), claim("c"), True),
        (volume("v", on="a", size="2Gi"), claim("c"), True),
        (volume("v", on="a", size="1Mi"), claim("c"), False),
        (volume("v", on="a", storage="slow"), claim("c"), False),
        (volume("v", on="a", modes=["ReadWriteMany"]), claim("c"), False),
        (volume("v", on="a", modes=["ReadWriteOnce", "ReadWriteMany"]), claim("c"), True),
        (volume("v", on="a", volumeMode="Block"), claim("c"), False),
        (volume("v", on="a", volumeMode="Block"), claim("c", volumeMode="Block"), True),
        (volume("v", on="a", phase="Released"), claim("c"), False),
        (volume("v", on="a", of="other"), claim("c"), False),
        (volume("v", on="a", of="c", phase="Available"), claim("c"), True),
        (volume("v", on="a", labels={"disk": "ssd"}), claim("c", selector={"matchLabels": {"disk": "ssd"}}), True),
        (volume("v", on="a", labels={"disk": "hdd"}), claim("c", selector={"matchLabels": {"disk": "ssd"}}), False),
    ],
)
def test_which_volume_suits_a_claim_that_waits_for_its_pod(offered: Obj, asked: Obj, fits: bool) -> None:
    snapshot = cell(node("a"), node("b"), FAST, offered, asked)
    assert verdicts(snapshot, user("p", "c")) == {"a": [] if fits else [NONE_FOUND], "b": [NONE_FOUND]}


def test_a_volume_that_is_being_deleted_is_given_to_nobody() -> None:
    going = volume("v", on="a")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert verdicts(cell(node("a"), FAST, going, claim("c")), user("p", "c")) == {"a": [NONE_FOUND]}


def test_a_class_with_a_provisioner_makes_volumes_where_its_topologies_allow() -> None:
    zoned = storage_class(
        "made",
        provisioner="example.com/disks",
        allowedTopologies=[{"matchLabelExpressions": [{"key": "zone", "values": ["1", "2"]}]}],
    )
    machines = [node("a", labels={"zone": "1"}), node("b", labels={"zone": "3"}), node("c")]
    snapshot = cell(*machines, zoned, claim("x", storage="made"))
    assert verdicts(snapshot, user("p", "x")) == {"a": [], "b": [NONE_FOUND], "c": [NONE_FOUND]}
    put(snapshot, MADE)
    assert verdicts(snapshot, user("p", "x")) == {"a": [], "b": [], "c": []}


def test_a_claim_whose_machine_is_chosen_goes_there() -> None:
    chosen = claim("c", storage="made", annotations={"volume.kubernetes.io/selected-node": "b"})
    snapshot = cell(node("a"), node("b"), MADE, chosen)
    assert verdicts(snapshot, user("p", "c")) == {"a": [NONE_FOUND], "b": []}


def test_two_claims_of_a_pod_need_two_volumes_on_one_machine() -> None:
    one_each = [volume("v1", on="a"), volume("v2", on="b"), volume("v3", on="b", size="3Gi")]
    snapshot = cell(node("a"), node("b"), FAST, *one_each, claim("x"), claim("y", size="2Gi"))
    assert verdicts(snapshot, user("p", "x", "y")) == {"a": [NONE_FOUND], "b": []}
    machine = snapshot.machine(1 if snapshot.machine(1).name == "b" else 0)
    reasons, binding = snapshot.volumes.judge(snapshot.classify(user("p", "x", "y")).claims, machine.labels, "b")
    assert not reasons
    # The smaller claim has the smaller volume.
    assert dict(binding.volumes) == {"v2": Key("default", "x"), "v3": Key("default", "y")}


def test_what_was_decided_for_one_pod_is_taken_for_the_next() -> None:
    snapshot = cell(node("a"), node("b"), FAST, volume("v", on="b"), claim("x"), claim("y"))
    cache = CandidateCache(snapshot, SPREADING)
    wanted = [
        Pending(Key("default", name), snapshot.classify(user(name, use))) for name, use in (("p", "x"), ("q", "y"))
    ]
    first, second = assign(cache, wanted, NOW, random.Random(1))
    assert first == Bind(Key("default", "p"), "b")
    assert isinstance(second, Refuse)
    assert second.reasons == {NONE_FOUND: 2}
    assert snapshot.volumes.binding(Key("default", "p")) == Binding((("v", Key("default", "x")),))
    snapshot.remove(Key("default", "p"))
    assert assign(cache, wanted[1:], NOW, random.Random(1))[0] == Bind(Key("default", "q"), "b")


def test_pods_that_share_a_claim_to_provision_meet_on_the_machine_of_the_first() -> None:
    snapshot = cell(node("a"), node("b"), MADE, claim("c", storage="made"))
    cache = CandidateCache(snapshot, SPREADING)
    wanted = [Pending(Key("default", name), snapshot.classify(user(name, "c"))) for name in ("p", "q", "r")]
    decisions = assign(cache, wanted, NOW, random.Random(3))
    assert len({decision.node for decision in decisions if isinstance(decision, Bind)}) == 1
    assert len(decisions) == 3
    # As long as one of them is there, the others follow.
    there = snapshot.node_of(Key("default", "p"))
    snapshot.remove(Key("default", "p"))
    assert [name for name, why in verdicts(snapshot, user("s", "c")).items() if not why] == [there]


def test_a_plan_leaves_what_is_assumed_as_it_was() -> None:
    snapshot = cell(node("a"), FAST, volume("v", on="a"), claim("x"))
    wanted = [Pending(Key("default", "p"), snapshot.classify(user("p", "x")))]
    for _ in range(2):
        assert plan(snapshot, wanted, NOW, random.Random(1)) == [Bind(Key("default", "p"), "a")]
    assert not snapshot.volumes.binding(Key("default", "p"))


def test_news_about_storage_are_seen_by_those_who_asked_before() -> None:
    snapshot = cell(node("a"), FAST, claim("c"))
    cache = CandidateCache(snapshot, SPREADING)
    pod_class = snapshot.classify(user("p", "c"))
    plain = snapshot.classify(pod("q"))
    assert not cache.fits_somewhere(pod_class)
    assert cache.fits_somewhere(plain)
    put(snapshot, volume("v", on="a"))
    assert cache.fits_somewhere(pod_class)
    snapshot.volumes.put_volume("v", None)
    assert not cache.fits_somewhere(pod_class)


def test_a_claim_for_one_pod_is_used_by_one_pod() -> None:
    alone = claim("c", volume="v", bound=True, modes=["ReadWriteOncePod"])
    snapshot = cell(node("a"), node("b"), volume("v", of="c"), alone)
    why = [
        "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode "
        "already in-use by another pod"
    ]
    assert verdicts(snapshot, user("p", "c"), USE) == {"a": [], "b": []}
    put(snapshot, user("first", "c", node_name="a"))
    assert verdicts(snapshot, user("p", "c"), USE) == {"a": why, "b": why}
    snapshot.remove(Key("default", "first"))
    assert verdicts(snapshot, user("p", "c"), USE) == {"a": [], "b": []}


def test_a_machine_has_no_more_volumes_of_a_driver_than_it_can_use() -> None:
    objects: list[Obj] = [node("a"), node("b")]
    for number in range(3):
        source: Obj = {"hostPath": None, "csi": {"driver": "disk.example.com", "volumeHandle": f"h{number}"}}
        objects += [
            volume(f"v{number}", of=f"c{number}", **source),
            claim(f"c{number}", volume=f"v{number}", bound=True),
        ]
    snapshot = cell(*objects)
    limits = read_limits(
        {"spec": {"drivers": [{"name": "disk.example.com", "allocatable": {"count": 2}}, {"name": "x"}]}}
    )
    snapshot.volumes.put_limits("a", limits)
    put(snapshot, user("p", "c0", node_name="a"))
    assert verdicts(snapshot, user("q", "c1"), USE) == {"a": [], "b": []}
    assert verdicts(snapshot, user("q", "c1", "c2"), USE) == {"a": ["node(s) exceed max volume count"], "b": []}
    # What is there already is not counted twice.
    assert verdicts(snapshot, user("q", "c0", "c1"), USE) == {"a": [], "b": []}


def test_a_less_important_pod_makes_way_for_a_claim_of_one_pod() -> None:
    alone = claim("c", volume="v", bound=True, modes=["ReadWriteOncePod"])
    snapshot = cell(node("a"), volume("v", of="c"), alone, user("small", "c", node_name="a"))
    great = user("great", "c", priority=5)
    (decision,) = plan(snapshot, [Pending(key_of(great), snapshot.classify(great), 5)], NOW, random.Random(1))
    assert getattr(decision, "victims", None) == (Key("default", "small"),)


MACHINES = ("a", "b", "c")
STOCK = st.lists(
    st.tuples(
        st.sampled_from(["", *MACHINES]), st.sampled_from(["1Gi", "2Gi", "3Gi"]), st.sampled_from(["", "", "c0"])
    ),
    max_size=6,
)
ASKED = st.lists(
    st.tuples(
        st.sampled_from(["fast", "made", "zoned"]), st.sampled_from(["1Gi", "2Gi"]), st.sampled_from(["", "", "b"])
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=300, deadline=None)
@given(STOCK, ASKED)
def test_all_machines_at_once_or_one_by_one_is_the_same(
    stock: list[tuple[str, str, str]], asked: list[tuple[str, str, str]]
) -> None:
    terms = [{"matchLabelExpressions": [{"key": "kubernetes.io/hostname", "values": ["a"]}]}]
    zoned = storage_class("zoned", provisioner="example.com/disks", allowedTopologies=terms)
    snapshot = cell(*map(node, MACHINES), FAST, MADE, zoned)
    for number, (on, size, of) in enumerate(stock):
        put(snapshot, volume(f"v{number}", on=on, size=size, of=of, phase="Available"))
    for number, (storage, size, selected) in enumerate(asked):
        marks = {"volume.kubernetes.io/selected-node": selected} if selected else None
        put(snapshot, claim(f"c{number}", storage=storage, size=size, annotations=marks))
    uses = [f"c{number}" for number in range(len(asked))]
    verdicts(snapshot, user("p", *uses))
    (decision,) = assign(
        CandidateCache(snapshot, SPREADING),
        [Pending(Key("default", "p"), snapshot.classify(user("p", *uses)))],
        NOW,
        random.Random(1),
    )
    if isinstance(decision, Bind):
        binding = snapshot.volumes.binding(decision.pod)
        given = [name for name, _ in binding.volumes]
        assert len(given) == len(set(given))
        assert len(given) + len(binding.provisions) == len(asked)
        for name in given:
            assert snapshot.volumes.volumes[name].reaches({"kubernetes.io/hostname": decision.node}, decision.node)
        copied = snapshot.copy()
        assert copied.volumes.binding(decision.pod) == binding
        copied.remove(decision.pod)
        assert snapshot.volumes.binding(decision.pod) == binding


@pytest.mark.parametrize(
    ("objects", "help_"),
    [
        ([], "create the PersistentVolumeClaim"),
        ([claim("c")], "see why the claim is not bound"),
        ([FAST, claim("c")], "add a volume of the claim's class and size"),
        (
            [volume("v", on="x", of="c"), claim("c", volume="v", bound=True)],
            "make room on the machine that has the volume",
        ),
        ([claim("c", volume="v", bound=True)], "the claim's volume is gone"),
    ],
)
def test_each_obstacle_has_a_remedy(objects: list[Obj], help_: str) -> None:
    story = explain(cell(node("a"), *objects), user("p", "c"), scheduler="s", profile=SPREADING)
    assert any(help_ in text for text in story["would_help"])
    assert story["machines"][0]["reasons"]
