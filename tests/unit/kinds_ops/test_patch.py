from copy import deepcopy
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.kinds import patch
from corral.kinds.status import StatusError

leaves = st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc/~"), inner, max_size=3),
    max_leaves=10,
)
objects = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


def has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(item is None or has_null(item) for item in value.values())
    return False


# --- RFC 7386: the table of its appendix A, where the patch is an object.
@pytest.mark.parametrize(
    ("original", "change", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_table(original: Any, change: Any, result: Any) -> None:
    assert patch.merge_patch(original, change) == result


@given(objects, objects)
def test_merge_patch_laws(original: Any, change: Any) -> None:
    once = patch.merge_patch(original, change)
    assert patch.merge_patch(once, change) == once
    assert patch.merge_patch(original, {}) == original
    assert patch.merge_patch({}, original) == original or has_null(original)
    assert [name for name in once if name in original] == [name for name in original if name in once]


@given(objects, objects)
def test_merge_patch_changes_no_argument_and_shares_nothing_with_the_patch(original: Any, change: Any) -> None:
    before = deepcopy((original, change))
    once = patch.merge_patch(original, change)
    assert once is not original
    assert (original, change) == before
    assert not containers_of(change) & containers_of(once)


def containers_of(value: Any) -> set[int]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = {id(value)} if isinstance(value, dict | list) else set()
    return found.union(*(containers_of(item) for item in inner))


@pytest.mark.parametrize("change", [None, [], "a", 1])
def test_merge_patch_must_be_an_object(change: Any) -> None:
    with pytest.raises(StatusError) as refusal:
        patch.merge_patch({}, change)
    assert refusal.value.code == 400


# --- RFC 6902
@given(objects, objects)
def test_json_patch_of_a_difference(before: Any, after: Any) -> None:
    ops = jsonpatch.make_patch(before, after).patch
    assert patch.json_patch(before, ops) == after


def test_json_patch_leaves_the_original_alone() -> None:
    original = {"a": {"b": [1]}}
    value: dict[str, list[int]] = {"c": []}
    patched = patch.json_patch(
        original, [{"op": "add", "path": "/a/b/-", "value": value}, {"op": "copy", "from": "/a/b/1", "path": "/d"}]
    )
    assert patched == {"a": {"b": [1, {"c": []}]}, "d": {"c": []}}
    assert original == {"a": {"b": [1]}}
    assert not containers_of(patched) & (containers_of(original) | containers_of(value))


@pytest.mark.parametrize(
    ("ops", "code"),
    [
        ([{"op": "test", "path": "/a", "value": 2}], 422),
        ([{"op": "test", "path": "/gone", "value": 2}], 422),
        ([{"op": "remove", "path": "/gone"}], 422),
        ([{"op": "replace", "path": "/gone", "value": 1}], 422),
        ([{"op": "add", "path": "/gone/deeper", "value": 1}], 422),
        ([{"op": "add", "path": "/list/9", "value": 1}], 422),
        ([{"op": "copy", "from": "/gone", "path": "/x"}], 422),
        ([{"op": "replace", "path": "", "value": 1}], 422),
        ([{"op": "add", "path": "/a"}], 400),
        ([{"op": "fly", "path": "/a"}], 400),
        ([{"op": "remove"}], 400),
        ([{"op": "remove", "path": "a"}], 400),
        ([{"op": "move", "path": "/a"}], 400),
        ([{"op": "move", "path": "/a", "from": 1}], 400),
        ({"op": "remove", "path": "/a"}, 400),
        (["remove"], 400),
        (None, 400),
        ([{"op": "test", "path": "/a", "value": 1}] * 10_001, 413),
    ],
)
def test_json_patch_refusals(ops: Any, code: int) -> None:
    with pytest.raises(StatusError) as refusal:
        patch.json_patch({"a": 1, "list": []}, ops)
    assert refusal.value.code == code


def test_json_patch_cannot_double_itself_to_death() -> None:
    ops = [{"op": "copy", "from": "/a", "path": "/a/x"}] * 100
    with pytest.raises(StatusError) as refusal:
        patch.json_patch({"a": {"b": "x" * 1000}}, ops)
    assert refusal.value.code == 413


def test_patch_types() -> None:
    patch.check_patch_type(patch.STRATEGIC_MERGE_PATCH, custom=False)
    patch.check_patch_type(patch.MERGE_PATCH, custom=True)
    with pytest.raises(StatusError) as refusal:
        patch.check_patch_type(patch.STRATEGIC_MERGE_PATCH, custom=True)
    assert refusal.value.code == 415


def test_a_failed_test_names_its_path() -> None:
    with pytest.raises(StatusError, match="testing value /a failed"):
        patch.json_patch({"a": 1}, [{"op": "test", "path": "/a", "value": 2}])
