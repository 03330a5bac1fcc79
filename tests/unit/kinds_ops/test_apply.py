import contextlib
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kinds_ops.schemas import CONFIG_MAP, DEPLOYMENT, WIDGET, SmallSchema

from corral.kinds.apply import apply, track
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

T0 = datetime(2030, 1, 1, tzinfo=UTC)
T1 = T0 + timedelta(hours=1)
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def config_map(**data: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "ns"}, "data": data}


def deployment(**spec: Any) -> Obj:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


def with_pod(**pod_spec: Any) -> Obj:
    return deployment(template={"spec": pod_spec})


def pod_spec_of(obj: Obj) -> Obj:
    found: Obj = obj["spec"]["template"]["spec"]
    return found


def applied(
    config: Obj,
    live: Obj | None = None,
    *,
    manager: str = "one",
    force: bool = False,
    now: datetime = T0,
    schema: SmallSchema = DEPLOYMENT,
    subresource: str = "",
) -> Obj:
    return apply(schema, live, config, manager=manager, force=force, now=now, subresource=subresource)


def updated(
    new: Obj,
    old: Obj | None = None,
    *,
    manager: str = "editor",
    now: datetime = T0,
    schema: SmallSchema = DEPLOYMENT,
    subresource: str = "",
) -> Obj:
    new = deepcopy(new)
    track(schema, old, new, manager=manager, now=now, subresource=subresource)
    return new


def owners(obj: Obj) -> dict[str, Any]:
    return {entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"].get("managedFields", [])}


# --- plain writes


def test_create_owns_what_it_sets() -> None:
    created = config_map(a="1", b="2")
    created["metadata"] |= {"labels": {"app": "x"}, "uid": "u", "resourceVersion": "1", "generation": 1}
    assert updated(created, schema=CONFIG_MAP)["metadata"]["managedFields"] == [
        {
            "manager": "editor",
            "operation": "Update",
            "apiVersion": "v1",
            "time": "2030-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:data": {".": {}, "f:a": {}, "f:b": {}},
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            },
        }
    ]


def test_create_of_a_deployment_has_the_fields_that_kubernetes_writes() -> None:
    created = deployment(
        replicas=1,
        selector={"matchLabels": {"app": "x"}},
        strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
        template={
            "metadata": {"labels": {"app": "x"}},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "i",
                        "command": ["a"],
                        "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        "resources": {},
                    }
                ],
                "nodeSelector": {"a": "b"},
            },
        },
    )
    created["metadata"]["finalizers"] = ["f"]
    created["status"] = {"replicas": 0}
    assert owners(updated(created))["editor"] == {
        "f:metadata": {"f:finalizers": {".": {}, 'v:"f"': {}}},
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:strategy": {"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
            "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:containers": {
                        'k:{"name":"web"}': {
                            ".": {},
                            "f:name": {},
                            "f:image": {},
                            "f:command": {},
                            "f:ports": {
                                ".": {},
                                'k:{"containerPort":80,"protocol":"TCP"}': {
                                    ".": {},
                                    "f:containerPort": {},
                                    "f:protocol": {},
                                },
                            },
                            "f:resources": {},
                        }
                    },
                    "f:nodeSelector": {},
                },
            },
        },
    }


def test_an_update_takes_only_what_it_changes() -> None:
    live = updated(deployment(replicas=1, selector={"matchLabels": {}}), manager="one")
    new = deepcopy(live)
    new["spec"]["replicas"] = 2
    after = updated(new, live, manager="two", now=T1)
    assert owners(after) == {"one": {"f:spec": {"f:selector": {}}}, "two": {"f:spec": {"f:replicas": {}}}}
    assert [entry["time"] for entry in after["metadata"]["managedFields"]] == [
        "2030-01-01T00:00:00Z",
        "2030-01-01T01:00:00Z",
    ]


def test_an_update_that_changes_nothing_leaves_the_list_alone() -> None:
    live = updated(config_map(a="1"), schema=CONFIG_MAP)
    new = deepcopy(live)
    new["metadata"]["resourceVersion"] = "9"
    assert (
        updated(new, live, manager="other", now=T1, schema=CONFIG_MAP)["metadata"]["managedFields"]
        == (live["metadata"]["managedFields"])
    )
    del new["metadata"]["managedFields"]
    assert owners(updated(new, live, manager="other", now=T1, schema=CONFIG_MAP)) == owners(live)


def test_removed_fields_have_no_owner_and_empty_entries_go() -> None:
    live = updated(config_map(a="1"), schema=CONFIG_MAP, manager="one")
    live = updated(live | {"data": {"a": "1", "b": "2"}}, live, schema=CONFIG_MAP, manager="two")
    assert owners(live)["two"] == {"f:data": {"f:b": {}}}
    after = updated(live | {"data": {"a": "1"}}, live, schema=CONFIG_MAP, manager="three", now=T1)
    assert owners(after) == {"one": {"f:data": {".": {}, "f:a": {}}}}
    gone = {key: value for key, value in after.items() if key != "data"}
    assert "managedFields" not in updated(gone, after, schema=CONFIG_MAP)["metadata"]


def test_status_belongs_to_its_subresource() -> None:
    live = updated(deployment(replicas=1), manager="one")
    condition = {"type": "Available", "status": "True"}
    new = deepcopy(live) | {"status": {"replicas": 1, "conditions": [condition]}}
    after = updated(new, live, manager="controller", now=T1, subresource="status")
    entry = after["metadata"]["managedFields"][1]
    assert (entry["manager"], entry["operation"], entry["subresource"]) == ("controller", "Update", "status")
    assert entry["fieldsV1"] == {
        "f:status": {
            "f:replicas": {},
            "f:conditions": {".": {}, 'k:{"type":"Available"}': {".": {}, "f:type": {}, "f:status": {}}},
        }
    }


def test_managed_fields_can_be_sent_and_reset() -> None:
    live = updated(config_map(a="1"), schema=CONFIG_MAP, manager="one")
    edited = deepcopy(live)
    edited["metadata"]["managedFields"][0]["manager"] = "renamed"
    assert set(owners(updated(edited, live, schema=CONFIG_MAP))) == {"renamed"}
    for ignored in ([], None, "text", [{"manager": "broken"}]):
        edited["metadata"]["managedFields"] = ignored
        assert set(owners(updated(edited, live, schema=CONFIG_MAP))) == {"one"}
    edited["metadata"]["managedFields"] = [{}]
    assert "managedFields" not in updated(edited, live, schema=CONFIG_MAP)["metadata"]
    edited["metadata"]["managedFields"] = [{}]
    assert set(owners(updated(edited, live, schema=CONFIG_MAP, subresource="status"))) == {"one"}


def test_old_updaters_are_merged() -> None:
    live = updated(config_map(base="1"), schema=CONFIG_MAP, manager="m00")
    for number in range(1, 14):
        new = deepcopy(live)
        new["data"][f"k{number}"] = "x"
        now = T0 + timedelta(minutes=number)
        live = updated(new, live, schema=CONFIG_MAP, manager=f"m{number:02}", now=now)
    found = owners(live)
    assert len(found) == 10
    assert found["ancient-changes"]["f:data"].keys() >= {"f:base", "f:k1", "f:k2", "f:k3"}
    assert "m13" in found


def test_open_fields_of_custom_resources() -> None:
    widget: Obj = {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": {"a": {"b": 1}, "l": [1]},
        "status": {"phase": "x"},
    }
    assert owners(updated(widget, schema=WIDGET))["editor"] == {
        "f:spec": {".": {}, "f:a": {".": {}, "f:b": {}}, "f:l": {}},
        "f:status": {".": {}, "f:phase": {}},
    }


# --- apply


def test_apply_creates_and_owns() -> None:
    config = with_pod(containers=[{"name": "web", "image": "i", "ports": [{"containerPort": 80}]}])
    config["metadata"]["labels"] = {"app": "x"}
    made = applied(config)
    assert made["metadata"]["managedFields"] == [
        {
            "manager": "one",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "time": "2030-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:template": {
                        "f:spec": {
                            "f:containers": {
                                'k:{"name":"web"}': {
                                    ".": {},
                                    "f:name": {},
                                    "f:image": {},
                                    "f:ports": {
                                        'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}
                                    },
                                }
                            }
                        }
                    }
                },
            },
        }
    ]
    made["metadata"].pop("managedFields")
    assert made == config


def test_apply_again_is_a_no_op() -> None:
    config = deployment(replicas=2)
    live = applied(config)
    live["metadata"] |= {"uid": "u", "resourceVersion": "5"}
    assert applied(config, live, now=T1) == live


def test_two_managers_share_an_object() -> None:
    live = applied(with_pod(containers=[{"name": "a", "image": "1"}]), manager="one")
    live = applied(with_pod(containers=[{"name": "b", "image": "2"}]), live, manager="two", now=T1)
    assert pod_spec_of(live)["containers"] == [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]
    assert set(owners(live)) == {"one", "two"}
    rest = applied(deployment(), live, manager="two", now=T1)
    assert pod_spec_of(rest)["containers"] == [{"name": "a", "image": "1"}]
    assert set(owners(rest)) == {"one", "two"}


def test_conflict_with_a_plain_writer() -> None:
    live = updated(deployment(replicas=1), manager="kubectl-client-side-apply")
    with pytest.raises(StatusError) as refusal:
        applied(deployment(replicas=2), live)
    assert refusal.value.code == 409
    assert refusal.value.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas'
    )
    assert refusal.value.status()["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl-client-side-apply" using apps/v1',
            "field": ".spec.replicas",
        }
    ]
    forced = applied(deployment(replicas=2), live, force=True)
    assert owners(forced) == {"one": {"f:spec": {"f:replicas": {}}}}
    agreed = applied(deployment(replicas=1), live)
    assert set(owners(agreed)) == {"one", "kubectl-client-side-apply"}


def test_conflicts_with_several_managers() -> None:
    live = applied(with_pod(containers=[{"name": "a", "image": "1"}]), manager="one")
    live = updated(live | {"spec": live["spec"] | {"replicas": 1}}, live, manager="two", subresource="scale")
    config = deployment(replicas=3, template={"spec": {"containers": [{"name": "a", "image": "2"}]}})
    with pytest.raises(StatusError) as refusal:
        applied(config, live, manager="three")
    assert refusal.value.message == (
        'Apply failed with 2 conflicts: conflicts with "one":\n'
        '- .spec.template.spec.containers[name="a"].image\n'
        'conflicts with "two" with subresource "scale" using apps/v1:\n'
        "- .spec.replicas"
    )


def test_dropped_fields_go_unless_another_applier_has_them() -> None:
    live = applied(deployment(replicas=1, strategy={"type": "Recreate"}), manager="one")
    live = applied(deployment(replicas=1), live, manager="two")
    live = applied(deployment(), live, manager="one", now=T1)
    assert live["spec"] == {"replicas": 1}
    assert owners(live) == {"one": {"f:spec": {}}, "two": {"f:spec": {"f:replicas": {}}}}


def test_dropped_items_keep_what_plain_writers_never_gave() -> None:
    live = applied(with_pod(containers=[{"name": "a", "image": "1"}, {"name": "b"}]), manager="one")
    edited = deepcopy(live)
    pod_spec_of(edited)["nodeSelector"] = {"x": "y"}
    live = updated(edited, live, manager="editor")
    live = applied(with_pod(containers=[{"name": "a", "image": "1"}]), live, manager="one", now=T1)
    assert pod_spec_of(live) == {"containers": [{"name": "a", "image": "1"}], "nodeSelector": {"x": "y"}}


def test_defaulted_keys_find_their_items() -> None:
    live = applied(with_pod(containers=[{"name": "a", "ports": [{"containerPort": 80}]}]))
    pod_spec_of(live)["containers"][0]["ports"][0]["protocol"] = "TCP"
    config = with_pod(containers=[{"name": "a", "ports": [{"containerPort": 80, "name": "http"}]}])
    after = applied(config, live, now=T1)
    assert pod_spec_of(after)["containers"][0]["ports"] == [{"containerPort": 80, "protocol": "TCP", "name": "http"}]


def test_sets_and_atomic_values() -> None:
    first = deployment()
    first["metadata"]["finalizers"] = ["a", "b"]
    live = applied(first, manager="one")
    second = with_pod(nodeSelector={"x": "1"}, tolerations=[{"key": "k"}])
    second["metadata"]["finalizers"] = ["c"]
    live = applied(second, live, manager="two")
    assert live["metadata"]["finalizers"] == ["a", "b", "c"]
    first["metadata"]["finalizers"] = ["b"]
    live = applied(first, live, manager="one", now=T1)
    assert live["metadata"]["finalizers"] == ["b", "c"]
    with pytest.raises(StatusError, match=r"\.spec\.template\.spec\.nodeSelector"):
        applied(with_pod(nodeSelector={"y": "2"}), live, manager="three")


def test_order_of_items_is_the_configurations() -> None:
    live = applied(with_pod(containers=[{"name": n} for n in "abcd"]), manager="one")
    after = applied(with_pod(containers=[{"name": n} for n in "xdyb"]), live, manager="two")
    assert [item["name"] for item in pod_spec_of(after)["containers"]] == list("acxdyb")


@pytest.mark.parametrize(
    "config",
    [
        with_pod(containers=[{"image": "i"}]),
        with_pod(containers=[{"name": "a"}, {"name": "a"}]),
        with_pod(containers=["text"]),
        {**deployment(), "metadata": {"name": "d", "finalizers": ["a", "a"]}},
        {**deployment(), "metadata": {"name": "d", "managedFields": [{"manager": "x"}]}},
    ],
)
def test_malformed_configurations(config: Obj) -> None:
    with pytest.raises(StatusError) as refusal:
        applied(config)
    assert refusal.value.code == 400


def test_nulls_in_a_configuration_mean_absent() -> None:
    made = applied(deployment(replicas=None, strategy={"type": "Recreate", "rollingUpdate": None}))
    assert made["spec"] == {"strategy": {"type": "Recreate"}}


def test_kubectl_may_take_over_what_it_applied_on_the_client() -> None:
    before = deployment(replicas=1)
    created = deepcopy(before)
    created["metadata"]["annotations"] = {LAST_APPLIED: orjson.dumps(before).decode()}
    live = updated(created, manager="kubectl-client-side-apply")
    with pytest.raises(StatusError):
        applied(deployment(replicas=2), live, manager="other")
    after = applied(deployment(replicas=2), live, manager="kubectl", now=T1)
    assert after["spec"]["replicas"] == 2
    assert owners(after)["kubectl"] == {"f:spec": {"f:replicas": {}}}
    assert orjson.loads(after["metadata"]["annotations"][LAST_APPLIED])["spec"] == {"replicas": 2}
    scaled = updated(live | {"spec": {"replicas": 5, "selector": {}}}, live, manager="hpa")
    hidden = deepcopy(scaled)
    hidden["metadata"]["annotations"][LAST_APPLIED] = "{}"
    with pytest.raises(StatusError):
        applied(deployment(replicas=2), hidden, manager="kubectl", now=T1)


def test_status_is_applied_through_its_subresource() -> None:
    live = applied(deployment(replicas=1))
    config = deployment(replicas=7) | {"status": {"replicas": 1}}
    after = applied(config, live, manager="controller", subresource="status")
    assert owners(after)["controller"] == {"f:status": {"f:replicas": {}}}
    assert owners(applied(config, manager="x")) == {"x": {"f:spec": {"f:replicas": {}}}}


names = st.sampled_from("abcd")
containers = st.lists(
    st.builds(lambda name, image: {"name": name, "image": image}, names, st.sampled_from("xy")),
    unique_by=lambda item: item["name"],
    max_size=4,
)
labels = st.dictionaries(names, st.sampled_from("12"), max_size=3)


def build(replicas: int | None, items: list[Obj], texts: dict[str, str]) -> Obj:
    config = with_pod(containers=items)
    if replicas is not None:
        config["spec"]["replicas"] = replicas
    if texts:
        config["metadata"]["labels"] = texts
    return config


configs = st.builds(build, st.none() | st.integers(0, 2), containers, labels)


def contains(obj: Any, config: Any) -> bool:
    """Whether everything that `config` sets stands in `obj`; lists by name."""
    if isinstance(config, dict):
        return all(name in obj and contains(obj[name], value) for name, value in config.items())
    if isinstance(config, list):
        by_name = {item["name"]: item for item in obj or []}
        return all(item["name"] in by_name and contains(by_name[item["name"]], item) for item in config)
    return bool(obj == config)


def without_empty_lists(config: Obj) -> Obj:
    config = deepcopy(config)
    if not pod_spec_of(config)["containers"]:
        del config["spec"]["template"]
    return config


@given(configs, configs)
def test_apply_twice_is_a_no_op(first: Obj, second: Obj) -> None:
    live = applied(first, manager="one")
    once = applied(second, live, manager="two", force=True)
    assert applied(second, once, manager="two", now=T1) == once


@given(configs, configs)
def test_two_appliers_keep_both(first: Obj, second: Obj) -> None:
    live = applied(first, manager="one")
    agreed = None
    with contextlib.suppress(StatusError):
        agreed = applied(second, live, manager="two")
    forced = applied(second, live, manager="two", force=True)
    assert contains(forced, without_empty_lists(second))
    if agreed is not None:
        assert agreed == forced
        assert contains(agreed, without_empty_lists(first))


@given(configs, configs)
def test_one_applier_gets_what_it_applied_last(first: Obj, second: Obj) -> None:
    live = applied(second, applied(first))
    fresh = applied(second)

    def essence(obj: Obj) -> Any:
        spec = obj.get("spec") or {}
        items = ((spec.get("template") or {}).get("spec") or {}).get("containers") or []
        return (
            obj["metadata"].get("labels") or {},
            spec.get("replicas"),
            sorted(items, key=lambda item: str(item["name"])),
        )

    assert essence(live) == essence(fresh)
    assert owners(live) == owners(fresh)


@given(configs, configs, configs)
def test_tracking_gives_each_changed_field_one_owner(first: Obj, second: Obj, third: Obj) -> None:
    live = updated(first, manager="one")
    live = updated(second | {"metadata": second["metadata"]}, live, manager="two")
    before = deepcopy(live)
    after = updated(third, live, manager="three", now=T1)
    assert live == before
    assert all(entry["fieldsV1"] for entry in after["metadata"].get("managedFields", []))
    if third == {**second}:
        assert owners(after) == owners(before)
