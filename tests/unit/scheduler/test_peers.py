"""Affinity between pods and spreading: tables of single cases; random cells are in `properties`."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.scheduler.test_filters import cell, verdicts

from corral.kinds.types import Key, Obj, key_of
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.filters.pod_affinity import PodAffinity
from corral.scheduler.filters.topology_spread import TopologySpread
from corral.scheduler.plan import Bind, Pending, assign
from corral.scheduler.profile import SPREADING
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import node, pod

AFFINITY = "node(s) didn't match pod affinity rules"
ANTI = "node(s) didn't match pod anti-affinity rules"
OTHERS = "node(s) didn't satisfy existing pods anti-affinity rules"
UNEVEN = "node(s) didn't match pod topology spread constraints"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def term(key: str = "zone", app: str = "a", **more: Any) -> Obj:
    return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}, **more}


def seeks(*terms: Obj) -> Obj:
    return {"podAffinity": {REQUIRED: list(terms)}}


def avoids(*terms: Obj) -> Obj:
    return {"podAntiAffinity": {REQUIRED: list(terms)}}


def spread(key: str = "zone", app: str = "a", **more: Any) -> Obj:
    selector = {"matchLabels": {"app": app}}
    base = {"topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}
    return base | more


def zoned(**zones: str) -> list[Obj]:
    return [node(name, labels={"zone": zone} if zone else {}) for name, zone in zones.items()]


def fitting(snapshot: Snapshot, wanted: Obj) -> set[str]:
    """Where all rules between pods let it go; checks that filters agree with their explanations."""
    found = {snapshot.machine(row).name for row in snapshot.rows()}
    for rule in (TopologySpread(), PodAffinity()):
        found -= {name for name, reasons in verdicts(rule, snapshot, wanted).items() if reasons}
    return found


def chosen(snapshot: Snapshot, wanted: Obj) -> set[str]:
    """Where it goes, over many seeds."""
    cache, pending = CandidateCache(snapshot, SPREADING), [Pending(key_of(wanted), snapshot.classify(wanted))]
    found = set()
    for seed in range(12):
        (decision,) = assign(cache, pending, NOW, random.Random(seed))
        found.add(decision.node if isinstance(decision, Bind) else "")
        snapshot.remove(key_of(wanted))
    return found


def test_affinity_leads_to_the_domain_of_those_sought() -> None:
    snapshot = cell(*zoned(n1="1", n2="1", n3="2", n4=""), placed=(pod("x", labels={"app": "a"}, node_name="n1"),))
    wanted = pod("p", affinity=seeks(term()))
    assert verdicts(PodAffinity(), snapshot, wanted) == {"n1": [], "n2": [], "n3": [AFFINITY], "n4": [AFFINITY]}
    assert fitting(snapshot, pod("p", affinity=seeks(term("kubernetes.io/hostname")))) == {"n1"}
    assert fitting(snapshot, pod("p", affinity=seeks(term(app="b")))) == set()
    assert fitting(snapshot, pod("p", affinity=seeks(term(), term("kubernetes.io/hostname")))) == {"n1"}


def test_the_first_of_a_group_that_seeks_itself_goes_to_any_domain() -> None:
    snapshot = cell(*zoned(n1="1", n2=""))
    assert fitting(snapshot, pod("p", labels={"app": "a"}, affinity=seeks(term()))) == {"n1"}
    assert fitting(snapshot, pod("p", labels={"app": "b"}, affinity=seeks(term()))) == set()


def test_all_required_terms_must_choose_the_same_pods() -> None:
    snapshot = cell(
        *zoned(n1="1", n2="2"),
        placed=(
            pod("x", labels={"app": "a"}, node_name="n1"),
            pod("y", labels={"app": "a", "tier": "db"}, node_name="n2"),
        ),
    )
    db = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"tier": "db"}}}
    assert fitting(snapshot, pod("p", affinity=seeks(term(), db))) == {"n2"}


def test_anti_affinity_holds_both_ways() -> None:
    keeper = pod("x", labels={"app": "a"}, node_name="n1", affinity=avoids(term(app="b")))
    snapshot = cell(*zoned(n1="1", n2="1", n3="2", n4=""), placed=(keeper,))
    assert verdicts(PodAffinity(), snapshot, pod("p", affinity=avoids(term())))["n2"] == [ANTI]
    assert fitting(snapshot, pod("p", affinity=avoids(term()))) == {"n3", "n4"}
    assert verdicts(PodAffinity(), snapshot, pod("p", labels={"app": "b"}))["n2"] == [OTHERS]
    assert fitting(snapshot, pod("p", labels={"app": "b"})) == {"n3", "n4"}
    assert fitting(snapshot, pod("p", labels={"app": "c"})) == {"n1", "n2", "n3", "n4"}
    snapshot.remove(key_of(keeper))
    assert fitting(snapshot, pod("p", labels={"app": "b"}, affinity=avoids(term()))) == {"n1", "n2", "n3", "n4"}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {"n3"}),
        ({"namespaces": ["other"]}, {"n2"}),
        ({"namespaces": ["default", "other"]}, {"n2", "n3"}),
        ({"namespaceSelector": {}}, {"n1", "n2", "n3"}),
        ({"namespaceSelector": {"matchLabels": {"team": "x"}}}, {"n1"}),
        ({"namespaceSelector": {"matchLabels": {"team": "x"}}, "namespaces": ["other"]}, {"n1", "n2"}),
    ],
)
def test_terms_choose_namespaces(more: Obj, expected: set[str]) -> None:
    snapshot = cell(*zoned(n1="1", n2="2", n3="3", n4="4"))
    snapshot.put_namespace("third", {"team": "x"})
    for number, namespace in ((1, "third"), (2, "other"), (3, "default")):
        there = pod("x", namespace=namespace, labels={"app": "a"}, node_name=f"n{number}")
        snapshot.place(key_of(there), snapshot.classify(there, placed=True), f"n{number}")
    assert fitting(snapshot, pod("p", affinity=seeks(term(**more)))) == expected


def test_a_namespace_may_change_its_labels() -> None:
    there = pod("x", namespace="other", labels={"app": "a"}, node_name="n1")
    snapshot = cell(*zoned(n1="1", n2="2"), placed=(there,))
    wanted = pod("p", affinity=avoids(term(namespaceSelector={"matchLabels": {"team": "x"}})))
    assert fitting(snapshot, wanted) == {"n1", "n2"}
    held = snapshot.classify(wanted)
    snapshot.put_namespace("other", {"team": "x"})
    assert fitting(snapshot, wanted) == {"n2"}
    snapshot.put_namespace("other", None)
    assert fitting(snapshot, wanted) == {"n1", "n2"}
    assert snapshot.classify(wanted) is held


def test_label_keys_of_the_pod_narrow_its_terms() -> None:
    old = pod("x", labels={"app": "a", "hash": "1"}, node_name="n1")
    snapshot = cell(*zoned(n1="1", n2="2"), placed=(old,))
    for hashed, match, mismatch in (("1", {"n2"}, {"n1", "n2"}), ("2", {"n1", "n2"}, {"n2"})):
        labels = {"app": "a", "hash": hashed}
        wanted = pod("p", labels=labels, affinity=avoids(term(matchLabelKeys=["hash", "absent"])))
        assert fitting(snapshot, wanted) == match
        wanted = pod("p", labels=labels, affinity=avoids(term(mismatchLabelKeys=["hash"])))
        assert fitting(snapshot, wanted) == mismatch
        wanted = pod("p", labels=labels, topologySpreadConstraints=[spread(matchLabelKeys=["hash"])])
        assert fitting(snapshot, wanted) == match


def test_preferences_sway_the_choice_both_ways() -> None:
    friend = pod("x", labels={"app": "a"}, node_name="n1", cpu="1", memory="1Gi")
    snapshot = cell(*zoned(n1="1", n2="2"), placed=(friend,))
    wish = {"weight": 100, "podAffinityTerm": term()}
    assert chosen(snapshot, pod("p")) == {"n2"}
    assert chosen(snapshot, pod("p", affinity={"podAffinity": {PREFERRED: [wish]}})) == {"n1"}
    snapshot = cell(
        *zoned(n1="1", n2="2"), placed=(pod("y", node_name="n1", affinity={"podAntiAffinity": {PREFERRED: [wish]}}),)
    )
    assert chosen(snapshot, pod("p", labels={"app": "a"})) == {"n2"}
    pulling = pod("y", node_name="n1", cpu="1", labels={"app": "a"}, affinity=seeks(term(app="b")))
    snapshot = cell(*zoned(n1="1", n2="2"), placed=(pulling,))
    assert chosen(snapshot, pod("p", labels={"app": "b"})) == {"n1"}


def placed_on(*nodes: str, **labels: str) -> tuple[Obj, ...]:
    return tuple(pod(f"x{number}", labels=labels or {"app": "a"}, node_name=name) for number, name in enumerate(nodes))


def test_spreading_refuses_what_is_too_far_ahead() -> None:
    snapshot = cell(*zoned(n1="1", n2="1", n3="2", n4=""), placed=placed_on("n1"))
    wanted = pod("p", labels={"app": "a"}, topologySpreadConstraints=[spread()])
    missing = f"{UNEVEN} (missing required label)"
    assert verdicts(TopologySpread(), snapshot, wanted) == {"n1": [UNEVEN], "n2": [UNEVEN], "n3": [], "n4": [missing]}
    # A pod that the constraint does not count adds nothing to the skew.
    assert fitting(snapshot, pod("p", topologySpreadConstraints=[spread()])) == {"n1", "n2", "n3"}
    assert fitting(snapshot, pod("p", labels={"app": "a"}, topologySpreadConstraints=[spread(maxSkew=2)])) == {
        "n1",
        "n2",
        "n3",
    }
    both = [spread(), spread("kubernetes.io/hostname")]
    assert fitting(snapshot, pod("p", labels={"app": "a"}, topologySpreadConstraints=both)) == {"n3"}


def test_too_few_domains_count_as_an_empty_one() -> None:
    snapshot = cell(*zoned(n1="1", n2="2"), placed=placed_on("n1", "n2"))
    labels = {"app": "a"}
    assert fitting(snapshot, pod("p", labels=labels, topologySpreadConstraints=[spread(minDomains=2)])) == {"n1", "n2"}
    assert fitting(snapshot, pod("p", labels=labels, topologySpreadConstraints=[spread(minDomains=3)])) == set()


def test_policies_say_which_machines_count() -> None:
    machines = [*zoned(n1="1", n2="2"), node("n3", labels={"zone": "3", "old": "yes"}, taints=["t=:NoSchedule"])]
    snapshot = cell(*machines, placed=placed_on("n1", "n2"))
    labels = {"app": "a"}
    assert fitting(snapshot, pod("p", labels=labels, topologySpreadConstraints=[spread()])) == {"n3"}
    honest = spread(nodeTaintsPolicy="Honor")
    assert fitting(snapshot, pod("p", labels=labels, topologySpreadConstraints=[honest])) == {"n1", "n2", "n3"}
    tolerant = pod("p", labels=labels, topologySpreadConstraints=[honest], tolerations=[{"operator": "Exists"}])
    assert fitting(snapshot, tolerant) == {"n3"}
    select = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [_absent("old")]}]}}}
    picky = pod("p", labels=labels, affinity=select, topologySpreadConstraints=[spread()])
    assert fitting(snapshot, picky) == {"n1", "n2", "n3"}
    blind = spread(nodeAffinityPolicy="Ignore")
    assert fitting(snapshot, pod("p", labels=labels, affinity=select, topologySpreadConstraints=[blind])) == {"n3"}


def _absent(key: str) -> Obj:
    return {"key": key, "operator": "DoesNotExist"}


def test_pods_that_end_are_spread_over_no_longer_but_still_keep_others_away() -> None:
    ending = pod("x", labels={"app": "a"}, node_name="n1")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    snapshot = cell(*zoned(n1="1", n2="2"), placed=(ending,))
    assert fitting(snapshot, pod("p", labels={"app": "a"}, topologySpreadConstraints=[spread()])) == {"n1", "n2"}
    assert fitting(snapshot, pod("p", affinity=avoids(term()))) == {"n2"}


def test_spreading_that_is_only_wished_for() -> None:
    wish = spread(whenUnsatisfiable="ScheduleAnyway")
    wanted = pod("p", labels={"app": "a"}, topologySpreadConstraints=[wish])
    snapshot = cell(*zoned(n1="1", n2="2"), placed=placed_on("n1"))
    snapshot.place(Key("", "big"), snapshot.classify(pod("big", cpu="1", memory="2Gi")), "n2")
    assert fitting(snapshot, wanted) == {"n1", "n2"}
    assert chosen(snapshot, wanted) == {"n2"}
    snapshot.remove_node("n2")
    assert chosen(snapshot, wanted) == {"n1"}


def test_a_machine_may_change_its_domain() -> None:
    snapshot = cell(*zoned(n1="1", n2="2"), placed=placed_on("n1"))
    wanted = pod("p", affinity=avoids(term()))
    assert fitting(snapshot, wanted) == {"n2"}
    snapshot.put_node(node("n2", labels={"zone": "1"}))
    assert fitting(snapshot, wanted) == set()
    snapshot.remove_node("n1")
    assert fitting(snapshot, wanted) == {"n2"}


def test_a_pod_placed_in_the_same_plan_lets_the_next_in() -> None:
    snapshot = cell(*zoned(n1="1", n2="2"))
    pods = [pod("p", affinity=seeks(term())), pod("q", labels={"app": "a"}), pod("r", affinity=seeks(term()))]
    pending = [Pending(key_of(one), snapshot.classify(one), 0, order) for order, one in enumerate(pods)]
    decisions = assign(CandidateCache(snapshot, SPREADING), pending, NOW, random.Random(1))
    assert [isinstance(decision, Bind) for decision in decisions] == [False, True, True]
    assert snapshot.node_of(Key("default", "q")) == snapshot.node_of(Key("default", "r"))
