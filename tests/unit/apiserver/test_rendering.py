import tracemalloc

import orjson
from hypothesis import given
from hypothesis import strategies as st

from corral.apiserver.rendering import Rendered, as_stored, encode, read, splice, unrevised
from corral.kinds.resources import CONFIG_MAPS, EVENTS
from corral.kinds.types import Obj, Resource
from corral.store.protocol import Entry

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
_metadata = st.dictionaries(
    st.sampled_from(["name", "uid", "labels", '"metadata":{', "resourceVersion"]), _json, max_size=4
)


@given(_metadata, st.dictionaries(st.text(), _json, max_size=3), st.integers(1, 10**12))
def test_a_spliced_value_is_the_object_with_its_revision(metadata: Obj, rest: Obj, revision: int) -> None:
    obj: Obj = {**rest, "kind": 'odd "metadata":{', "apiVersion": "v1", "metadata": metadata}
    found = orjson.loads(splice(encode(obj), revision))
    assert found.pop("metadata") == {**metadata, "resourceVersion": str(revision)}
    assert found == {key: value for key, value in obj.items() if key != "metadata"}


def test_values_begin_with_kind_version_and_metadata() -> None:
    value = encode(
        {"data": {}, "metadata": {"name": "a", "resourceVersion": "9"}, "apiVersion": "v1", "kind": "ConfigMap"}
    )
    assert value == b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{}}'


def test_a_value_takes_no_more_memory_than_its_length() -> None:
    obj: Obj = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"key": "value"}}
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        values = [encode(obj) for _ in range(1_000)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2 * sum(map(len, values))


def test_an_entry_is_rendered_once() -> None:
    entry = Entry("/core/configmaps/a/b", b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"b"}}', 7, 7)
    assert as_stored(entry) is as_stored(entry)
    assert read(entry)["metadata"]["resourceVersion"] == "7"
    assert as_stored(entry).fresh() is not as_stored(entry).obj


def test_watch_lines_are_made_once() -> None:
    rendered = Rendered(b"{}")
    assert rendered.line("ADDED") == b'{"type":"ADDED","object":{}}\n'
    assert rendered.line("ADDED") is rendered.line("ADDED")


def test_another_version_differs_in_its_spelling_only() -> None:
    other = Resource("", "v2", CONFIG_MAPS.plural, CONFIG_MAPS.kind, True)
    rendered = Rendered(b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{},"data":{"apiVersion":"v1"}}')
    assert rendered.view(CONFIG_MAPS, other).obj == {
        "kind": "ConfigMap",
        "apiVersion": "v2",
        "metadata": {},
        "data": {"apiVersion": "v1"},
    }


def test_events_are_shared_between_their_two_groups() -> None:
    newer = Resource("events.k8s.io", "v1", "events", "Event", True)
    rendered = Rendered(orjson.dumps({"kind": "Event", "apiVersion": "v1", "metadata": {}, "message": "m", "count": 2}))
    assert rendered.view(EVENTS, newer).obj == {
        "kind": "Event",
        "apiVersion": "events.k8s.io/v1",
        "metadata": {},
        "note": "m",
        "deprecatedCount": 2,
    }


@given(_metadata, st.dictionaries(st.text(), _json, max_size=3), st.integers(1, 10**12))
def test_what_a_writer_leaves_reads_like_its_bytes(metadata: Obj, rest: Obj, revision: int) -> None:
    obj: Obj = {**rest, "kind": "K", "apiVersion": "v1", "metadata": metadata}
    stored = unrevised(obj)
    entry = Entry("/k/a", encode(obj), revision, revision, stored)
    rendered = as_stored(entry)
    assert rendered.obj == orjson.loads(rendered.json) == rendered.fresh()
    assert list(rendered.obj) == list(rendered.fresh())
    assert "resourceVersion" not in stored["metadata"]
    assert as_stored(entry) is rendered
