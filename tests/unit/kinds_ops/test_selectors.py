from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.kinds.selectors import FieldSelector, LabelSelector, NodeSelector
from corral.kinds.status import StatusError

LABELS = {"app": "web", "tier": "front", "size": "10", "empty": ""}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", True),
        ("app", True),
        ("!app", False),
        ("! app", False),
        ("!other", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier = front", True),
        ("app!=web", False),
        ("other!=web", True),
        ("other=web", False),
        ("app in (web,db)", True),
        ("app in (db)", False),
        ("app notin (db,cache)", True),
        ("other notin (db)", True),
        ("app in (web),tier notin (back),!gone", True),
        ("empty=", True),
        ("empty=,app=web", True),
        ("empty in ()", True),
        ("empty in (,x)", True),
        ("size>9", True),
        ("size>10", False),
        ("size<11", True),
        ("app>1", False),
        ("other<1", False),
        ("example.com/part!=x", True),
        ("in=x", False),
        ("in", False),
    ],
)
def test_label_selector_text(text: str, chosen: bool) -> None:
    assert LabelSelector.parse(text).matches(LABELS) is chosen


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "a,",
        ",a",
        "a=b=c",
        "a in",
        "a in b",
        "a in (b",
        "a in (b c)",
        "!a=b",
        "a!",
        "=b",
        "a>x",
        "a b",
        "-a",
        "a=-b",
        "A_/b=c",
        "(a)",
        "a=b)",
        "!",
    ],
)
def test_label_selector_refusals(text: str) -> None:
    with pytest.raises(StatusError) as refusal:
        LabelSelector.parse(text)
    assert refusal.value.code == 400


def test_everything_and_nothing() -> None:
    assert LabelSelector.parse("").everything
    assert LabelSelector.from_object({}).everything
    nothing = LabelSelector.from_object(None)
    assert not nothing.everything
    assert not nothing.matches(LABELS)
    assert LabelSelector.from_object({}).matches(None)


def test_label_selector_object() -> None:
    selector = LabelSelector.from_object(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front", "back"]},
                {"key": "gone", "operator": "DoesNotExist"},
                {"key": "size", "operator": "Exists"},
                {"key": "zone", "operator": "NotIn", "values": ["a"]},
            ],
        }
    )
    assert selector.matches(LABELS)
    assert not selector.matches({**LABELS, "zone": "a"})
    assert not selector.matches({})


@pytest.mark.parametrize(
    "expression",
    [
        {"key": "a", "operator": "Gt", "values": ["1"]},
        {"key": "a", "operator": "In"},
        {"key": "a", "operator": "Exists", "values": ["x"]},
        {"key": "a", "operator": "Like", "values": ["x"]},
        {"key": "", "operator": "Exists"},
    ],
)
def test_label_selector_object_refusals(expression: Mapping[str, object]) -> None:
    with pytest.raises(StatusError):
        LabelSelector.from_object({"matchExpressions": [expression]})


words = st.from_regex(r"[a-z]{1,3}", fullmatch=True)


@given(st.dictionaries(words, words, max_size=4), st.dictionaries(words, words, max_size=4))
def test_text_and_object_agree(wanted: dict[str, str], labels: dict[str, str]) -> None:
    text = ",".join(f"{key}={value}" for key, value in wanted.items())
    expected = wanted.items() <= labels.items()
    assert LabelSelector.parse(text).matches(labels) is expected
    assert LabelSelector.from_object({"matchLabels": wanted}).matches(labels) is expected


POD = {
    "metadata": {"name": "a,b=c", "namespace": "x"},
    "spec": {"nodeName": "", "hostNetwork": True},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", True),
        ("status.phase=Running", True),
        ("status.phase==Running,metadata.namespace=x", True),
        ("status.phase!=Running", False),
        ("spec.nodeName=", True),
        ("spec.nodeName!=", False),
        ("status.podIP=", True),
        ("spec.hostNetwork=true", True),
        ("spec.unschedulable=false", True),
        (r"metadata.name=a\,b\=c", True),
        (r"metadata.name!=a\,b\=c", False),
    ],
)
def test_field_selector(text: str, chosen: bool) -> None:
    assert FieldSelector.parse(text).matches(POD) is chosen


@pytest.mark.parametrize("text", ["a", "=b", r"a=b\c", "a=b=c", "a=\\"])
def test_field_selector_refusals(text: str) -> None:
    with pytest.raises(StatusError) as refusal:
        FieldSelector.parse(text)
    assert refusal.value.code == 400


def test_field_selector_required_value() -> None:
    selector = FieldSelector.parse("metadata.name=x,status.phase!=Failed")
    assert selector.required("metadata.name") == "x"
    assert selector.required("status.phase") is None
    assert [field.path for field in selector.fields] == ["metadata.name", "status.phase"]


def test_event_source() -> None:
    event = {"metadata": {"name": "e"}, "source": {"component": "kubelet"}, "reason": "Started"}
    assert FieldSelector.parse("source=kubelet,reason=Started").matches(event)
    assert FieldSelector.parse("source=x").matches({"source": {}, "reportingComponent": "x"})


def test_node_selector() -> None:
    selector = NodeSelector.from_object(
        {
            "nodeSelectorTerms": [
                {},
                {"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["8"]}]},
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n" * 100]}]},
            ]
        }
    )
    assert selector.matches({"cores": "16"}, "a")
    assert not selector.matches({"cores": "8"}, "a")
    assert selector.matches({}, "n" * 100)
    assert not NodeSelector.from_object(None).matches({}, "a")
    assert not NodeSelector.from_object({"nodeSelectorTerms": [{}]}).matches({}, "a")
    with pytest.raises(StatusError):
        NodeSelector.from_object({"nodeSelectorTerms": [{"matchFields": [{"key": "x", "operator": "Exists"}]}]})
