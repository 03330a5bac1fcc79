"""The pods behind a Service, in both forms."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.controllers.endpoints import legacy
from corral.controllers.endpoints.slices import HEADLESS_LABEL, MOST, Plan, plan
from corral.kinds.types import Obj


def service(*ports: Obj, **spec: Any) -> Obj:
    listed = list(ports) or [{"port": 80, "targetPort": 8080}]
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"name": "web", "namespace": "n", "uid": "s", "labels": {"team": "a"}},
        "spec": {"selector": {"app": "web"}, "ports": listed, **spec},
    }


def pod(name: str, *, ready: bool = True, deleted: bool = False, port: int = 8080, **spec: Any) -> Obj:
    metadata: Obj = {"name": name, "namespace": "n", "uid": f"uid-{name}", "labels": {"app": "web"}}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    container = {"name": "c", "ports": [{"name": "http", "containerPort": port}]}
    number = sum(map(ord, name)) % 250
    status = {"phase": "Running", "podIP": f"10.1.0.{number}", "conditions": [{"type": "Ready", "status": str(ready)}]}
    return {"metadata": metadata, "spec": {"nodeName": "m1", "containers": [container], **spec}, "status": status}


def applied(slices: list[Obj], made: Plan) -> list[Obj]:
    gone = {one["metadata"]["name"] for one in made.delete}
    changed = {one["metadata"]["name"]: one for one in made.update}
    kept = [changed.get(one["metadata"]["name"], one) for one in slices if one["metadata"]["name"] not in gone]
    taken = {one["metadata"]["name"] for one in kept}
    for one in made.create:
        name = next(f"web-{at}" for at in range(1000) if f"web-{at}" not in taken)
        taken.add(name)
        kept.append({**one, "metadata": {**one["metadata"], "name": name}})
    return kept


def test_an_endpoint_says_where_and_how_the_pod_is() -> None:
    (made,) = plan(service(), [pod("a")], {"m1": "z1"}, []).create
    assert made["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    (endpoint,) = made["endpoints"]
    assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert (endpoint["nodeName"], endpoint["zone"]) == ("m1", "z1")
    assert endpoint["targetRef"]["name"] == "a"
    assert made["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    assert made["metadata"]["labels"]["team"] == "a"
    assert plan(service(), [pod("a")], {"m1": "z1"}, applied([], Plan(create=(made,)))) == Plan()


@pytest.mark.parametrize(
    ("one", "spec", "ready", "serving", "terminating"),
    [
        (pod("a", ready=False), {}, False, False, False),
        (pod("a", ready=False), {"publishNotReadyAddresses": True}, True, False, False),
        (pod("a", deleted=True), {}, False, True, True),
    ],
)
def test_conditions(one: Obj, spec: Obj, ready: bool, serving: bool, terminating: bool) -> None:
    (made,) = plan(service(**spec), [one], {}, []).create
    assert made["endpoints"][0]["conditions"] == {"ready": ready, "serving": serving, "terminating": terminating}


def test_a_named_port_may_differ_from_pod_to_pod() -> None:
    named = service({"name": "web", "port": 80, "targetPort": "http"})
    made = plan(named, [pod("a"), pod("b", port=9090), pod("c")], {}, []).create
    found = {one["ports"][0]["port"]: [item["targetRef"]["name"] for item in one["endpoints"]] for one in made}
    assert found == {8080: ["a", "c"], 9090: ["b"]}


def test_pods_without_address_and_ended_ones_are_left_out() -> None:
    waiting, ended = pod("a"), pod("b")
    del waiting["status"]["podIP"]
    ended["status"]["phase"] = "Succeeded"
    (made,) = plan(service(), [waiting, ended], {}, []).create
    assert (made["endpoints"], made["ports"]) == ([], [])


def test_headless_services_say_so_and_name_hosts() -> None:
    headless = service(clusterIP="None")
    (made,) = plan(headless, [pod("a", hostname="db-0", subdomain="web")], {}, []).create
    assert HEADLESS_LABEL in made["metadata"]["labels"]
    assert made["endpoints"][0]["hostname"] == "db-0"


def test_one_pod_more_or_less_rewrites_one_slice() -> None:
    pods = [pod(f"p{number:03}") for number in range(250)]
    slices = applied([], plan(service(), pods, {}, []))
    assert sorted(len(one["endpoints"]) for one in slices) == [50, 100, 100]
    fewer = plan(service(), pods[1:], {}, slices)
    assert (len(fewer.create), len(fewer.update), len(fewer.delete)) == (0, 1, 0)
    more = plan(service(), [*pods, pod("new")], {}, slices)
    assert (len(more.create), len(more.update), len(more.delete)) == (0, 1, 0)


MEMBERS = st.dictionaries(st.integers(0, 300), st.tuples(st.booleans(), st.sampled_from([1, 2])), max_size=250)


@given(st.lists(MEMBERS, max_size=4))
def test_slices_show_just_the_pods_whatever_came_before(rounds: list[dict[int, tuple[bool, int]]]) -> None:
    named = service({"name": "web", "port": 80, "targetPort": "http"})
    slices: list[Obj] = []
    for members in rounds:
        pods = [pod(f"p{number}", ready=ready, port=port) for number, (ready, port) in members.items()]
        slices = applied(slices, plan(named, pods, {}, slices))
        shown = [
            (item["targetRef"]["name"], item["conditions"]["ready"], one["ports"][0]["port"])
            for one in slices
            for item in one["endpoints"]
        ]
        wanted = [(f"p{number}", ready, port) for number, (ready, port) in members.items()]
        assert sorted(shown) == sorted(wanted)
        assert slices, "a Service without pods has an empty slice"
        assert all(len(one["endpoints"]) <= MOST for one in slices)
        assert plan(named, pods, {}, slices) == Plan()


def test_the_older_form_sorts_by_readiness_and_leaves_out_who_ends() -> None:
    made = legacy.endpoints(service(), [pod("a"), pod("b", ready=False), pod("c", deleted=True)])
    (subset,) = made["subsets"]
    assert [one["targetRef"]["name"] for one in subset["addresses"]] == ["a"]
    assert [one["targetRef"]["name"] for one in subset["notReadyAddresses"]] == ["b"]
    assert subset["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert legacy.same(made, legacy.endpoints(service(), [pod("a"), pod("b", ready=False)]))


def test_the_older_form_is_cut_at_a_thousand() -> None:
    made = legacy.endpoints(service(), [pod(f"p{number}") for number in range(1001)])
    assert sum(len(subset["addresses"]) for subset in made["subsets"]) == 1000
    assert made["metadata"]["annotations"] == {legacy.OVER_CAPACITY: "truncated"}
