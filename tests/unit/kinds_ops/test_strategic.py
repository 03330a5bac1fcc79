from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kinds_ops.schemas import DEPLOYMENT

from corral.kinds.patch import copied, strategic_merge_patch
from corral.kinds.status import StatusError
from corral.kinds.types import Obj


def deployment(**pod_spec: Any) -> Obj:
    return {"metadata": {"name": "web"}, "spec": {"template": {"spec": pod_spec}}}


def patched(original: Obj, change: Obj) -> Obj:
    """The pod spec of a deployment with the pod spec `original` patched with the pod spec `change`."""
    result = strategic_merge_patch(DEPLOYMENT, deployment(**original), deployment(**change))
    spec: Obj = result["spec"]["template"]["spec"]
    return spec


def names(items: list[Obj]) -> list[str]:
    return [item["name"] for item in items]


def test_lists_with_a_merge_key_are_merged() -> None:
    # From the Kubernetes task page "Update API Objects in Place Using kubectl patch".
    result = patched(
        {"containers": [{"name": "demo", "image": "nginx"}], "tolerations": [{"key": "a"}]},
        {"containers": [{"name": "demo-2", "image": "redis"}], "tolerations": [{"key": "b"}]},
    )
    assert result == {
        "containers": [{"name": "demo-2", "image": "redis"}, {"name": "demo", "image": "nginx"}],
        "tolerations": [{"key": "b"}],
    }


def test_items_are_merged_field_by_field() -> None:
    result = patched(
        {"containers": [{"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]}, {"name": "b"}]},
        {
            "containers": [
                {"name": "a", "image": "y", "env": [{"name": "F", "value": "2"}, {"name": "E", "value": None}]}
            ]
        },
    )
    assert result["containers"] == [
        {"name": "a", "image": "y", "env": [{"name": "F", "value": "2"}, {"name": "E"}]},
        {"name": "b"},
    ]


def test_delete_and_replace_directives_in_a_list() -> None:
    original = {"containers": [{"name": "a"}, {"name": "b", "image": "x"}]}
    assert patched(original, {"containers": [{"name": "a", "$patch": "delete"}]}) == {
        "containers": [{"name": "b", "image": "x"}]
    }
    assert patched(original, {"containers": [{"$patch": "replace"}, {"name": "c"}]}) == {"containers": [{"name": "c"}]}
    assert patched({}, {"containers": [{"name": "a", "$patch": "delete"}, {"name": "b"}]}) == {
        "containers": [{"name": "b"}]
    }


def test_directives_on_mappings() -> None:
    original = {"nodeSelector": {"a": "1", "b": "2"}}
    assert patched(original, {"nodeSelector": {"$patch": "replace", "c": "3"}}) == {"nodeSelector": {"c": "3"}}
    assert patched(original, {"nodeSelector": {"$patch": "delete"}}) == {"nodeSelector": {}}
    assert patched(original, {"nodeSelector": {"$patch": "merge", "b": None}}) == {"nodeSelector": {"a": "1"}}
    assert patched(original, {"nodeSelector": None}) == {}
    assert patched({}, {"nodeSelector": {"a": None, "b": "1"}}) == {"nodeSelector": {"b": "1"}}


def test_retain_keys() -> None:
    # From the same page: "Notes on the strategic merge patch using the retainKeys strategy".
    original = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    change = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic_merge_patch(DEPLOYMENT, copied(original), change) == {"spec": {"strategy": {"type": "Recreate"}}}
    with pytest.raises(StatusError) as refusal:
        strategic_merge_patch(DEPLOYMENT, original, {"spec": {"strategy": {"$retainKeys": [], "type": "Recreate"}}})
    assert refusal.value.code == 400


def test_lists_of_scalars() -> None:
    original = {"metadata": {"finalizers": ["a", "b", "c"]}}

    def after(change: Obj) -> Any:
        return strategic_merge_patch(DEPLOYMENT, copied(original), {"metadata": change})["metadata"].get("finalizers")

    assert after({"finalizers": ["d", "b"]}) == ["d", "a", "b", "c"]
    assert after({"$deleteFromPrimitiveList/finalizers": ["b", "x"]}) == ["a", "c"]
    assert after({"$setElementOrder/finalizers": ["c", "a"], "$deleteFromPrimitiveList/finalizers": ["b"]}) == [
        "c",
        "a",
    ]
    assert after({"finalizers": None}) is None


def test_set_element_order() -> None:
    # As kubectl apply sends it: one container changed, one added, one removed, a fourth is the server's own.
    original = {"containers": [{"name": "a", "image": "1"}, {"name": "b"}, {"name": "sidecar"}, {"name": "c"}]}
    result = patched(
        original,
        {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "new"}, {"name": "a"}],
            "containers": [
                {"name": "new", "image": "n"},
                {"name": "a", "image": "2"},
                {"$patch": "delete", "name": "b"},
            ],
        },
    )
    assert names(result["containers"]) == ["sidecar", "c", "new", "a"]
    assert result["containers"][3] == {"name": "a", "image": "2"}


def test_set_element_order_alone_sorts() -> None:
    original = {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}
    result = patched(original, {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]})
    assert names(result["containers"]) == ["b", "c", "a"]
    assert patched({}, {"$setElementOrder/containers": [{"name": "c"}]}) == {}


def test_unordered_items_of_the_patch_are_refused() -> None:
    with pytest.raises(StatusError, match="another order"):
        patched(
            {"containers": []},
            {
                "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
                "containers": [{"name": "b"}, {"name": "a"}],
            },
        )


@pytest.mark.parametrize(
    "change",
    [
        {"containers": [{"image": "no key"}]},
        {"containers": ["text"]},
        {"containers": [[]]},
        {"containers": [{"$patch": "delete"}]},
        {"containers": [{"$patch": "fly", "name": "a"}]},
        {"nodeSelector": {"$patch": "fly"}},
        {"$setElementOrder/containers": {}},
        {"$deleteFromPrimitiveList/containers": "a"},
        {"$retainKeys": "a"},
    ],
)
def test_refusals(change: Obj) -> None:
    with pytest.raises(StatusError) as refusal:
        patched({"containers": [{"name": "a"}], "nodeSelector": {"a": "b"}}, change)
    assert refusal.value.code == 400


def test_fields_that_the_schema_does_not_know() -> None:
    result = strategic_merge_patch(DEPLOYMENT, {"x": {"a": 1}, "l": [1]}, {"x": {"b": 2}, "l": [2], "$ref": "kept"})
    assert result == {"x": {"a": 1, "b": 2}, "l": [2], "$ref": "kept"}
    assert strategic_merge_patch(None, {"a": [1]}, {"a": [2]}) == {"a": [2]}


containers = st.lists(
    st.builds(lambda name, image: {"name": name, "image": image}, st.sampled_from("abcdef"), st.sampled_from("xy")),
    unique_by=lambda item: item["name"],
    max_size=5,
)


@given(containers, containers)
def test_merging_is_idempotent_and_keeps_every_name(original: list[Obj], change: list[Obj]) -> None:
    once = patched({"containers": original}, {"containers": change})["containers"]
    assert sorted(names(once)) == sorted({*names(original), *names(change)})
    assert patched({"containers": once}, {"containers": change})["containers"] == once
    assert [name for name in names(once) if name in names(change)] == names(change)


@given(containers, containers)
def test_kubectl_apply_reaches_the_wanted_list(live: list[Obj], wanted: list[Obj]) -> None:
    gone = [{"$patch": "delete", "name": name} for name in names(live) if name not in names(wanted)]
    order = [{"name": name} for name in names(wanted)]
    change = {"$setElementOrder/containers": order, "containers": [*wanted, *gone]}
    assert patched({"containers": live}, change)["containers"] == wanted
