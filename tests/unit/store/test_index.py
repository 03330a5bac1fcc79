"""The state that reads are served from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.store import index as module
from corral.store.filed import filed_under
from corral.store.index import Index
from corral.store.protocol import Change, Entry, Topic
from corral.store.state import Write, decide


def put(index: Index, key: str, value: bytes = b"") -> Entry:
    current = index.get(key)
    outcome = decide(Write("put", key, value, current.revision if current else 0), current, index.revision + 1)
    assert isinstance(outcome, Change)
    index.apply([outcome])
    return outcome.entry


def delete(index: Index, key: str) -> Entry:
    current = index.get(key)
    assert current is not None
    outcome = decide(Write("delete", key, b"", current.revision), current, index.revision + 1)
    assert isinstance(outcome, Change)
    index.apply([outcome])
    return outcome.entry


def test_a_listing_is_the_same_object_until_something_under_it_is_written() -> None:
    index = Index()
    put(index, "/a/b/1")
    put(index, "/a/c/1")
    listing, other = index.current("/a/b/"), index.current("/a/")
    put(index, "/a/c/2")
    assert index.current("/a/b/") is listing
    assert index.current("/a/") is not other
    delete(index, "/a/b/1")
    assert index.current("/a/b/") == ()


def test_the_listing_cache_is_bounded() -> None:
    index = Index()
    put(index, "/a/b")
    for number in range(3_000):
        index.current(f"/{number}/")
        index.at(f"/{number}/", 1)
    assert len(index._views) <= 1_024
    assert len(index._past) <= 8


def test_a_gap_between_revisions_is_refused() -> None:
    index = Index()
    with pytest.raises(AssertionError, match="cannot follow"):
        index.apply([Change("put", Entry("/a", b"", 2, 2), None)])


def test_pages_of_the_past_are_built_once() -> None:
    index = Index()
    for number in range(10):
        put(index, f"/a/{number}")
    put(index, "/a/9", b"new")
    assert index.at("/a/", 10) is index.at("/a/", 10)
    put(index, "/a/8", b"new")
    assert [entry.value for entry in index.at("/a/", 10)] == [b""] * 10
    assert [entry.value for entry in index.at("/a/", 11)] == [b""] * 9 + [b"new"]


def test_a_listing_by_topic_looks_at_what_changed_since_the_last_one() -> None:
    index, looks = Index(), list[str]()

    def colour(entry: Entry) -> str:
        looks.append(entry.key)
        return entry.value.decode()

    red, blue = Topic(colour, "red"), Topic(colour, "blue")
    for number in range(100):
        put(index, f"/a/{number:02}", b"red")
    assert len(index.current("/a/", red)) == 100
    put(index, "/b/1", b"red")
    for value in (b"blue", b"red", b"blue"):
        put(index, "/a/07", value)
    delete(index, "/a/08")
    looks.clear()
    assert [entry.key for entry in index.current("/a/", blue)] == ["/a/07"]
    assert len(index.current("/a/", red)) == 98
    assert index.current("/a/", red) is index.current("/a/", red)
    assert looks == ["/a/07"]
    put(index, "/a/09", b"blue")
    index.forget(index.revision)
    assert [entry.key for entry in index.current("/a/", blue)] == ["/a/07", "/a/09"]
    assert index.current("/a/", blue)[1] is index.get("/a/09")


def test_what_topics_keep_is_bounded() -> None:
    index = Index()
    put(index, "/a/1")
    for number in range(100):
        index.current(f"/{number}/", Topic(lambda entry: entry.key, ""))
    assert len(index._filed) == 32


def text(entry: Entry) -> str:
    return entry.value.decode()


KEYS = ("/core/pods/a/x", "/core/pods/a/y", "/core/pods/b/x", "/core/podsets/a/x", "/core/nodes", "/core/nodes/n", "/a")
PREFIXES = ("", "/", "/core/", "/core/pods/", "/core/pods/a/", "/core/pods", "/core/pods/a/x", "/none/of/it/")


@given(st.data())
def test_history_by_topic_and_prefix_is_what_a_look_at_all_changes_finds(data: st.DataObject) -> None:
    index = Index()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FEW", 0)
        for _ in range(data.draw(st.integers(1, 25))):
            step = data.draw(st.sampled_from(["put", "put", "put", "delete", "forget", "look"]))
            key = data.draw(st.sampled_from(KEYS))
            if step == "put":
                put(index, key, data.draw(st.sampled_from([b"red", b"blue"])))
            elif step == "delete" and index.get(key) is not None:
                delete(index, key)
            elif step == "forget":
                index.forget(data.draw(st.integers(index.compacted, index.revision)))
            prefix, after = (
                data.draw(st.sampled_from(PREFIXES)),
                data.draw(st.integers(index.compacted, index.revision)),
            )
            wanted = [change for change in index.since(after) if change.entry.key.startswith(prefix)]
            assert list(index.history(prefix, after)) == wanted
            red = [change for change in wanted if "red" in filed_under(change, text)]
            assert list(index.history(prefix, after, Topic(text, "red"))) == red


def test_a_watch_that_resumes_looks_at_no_change_twice() -> None:
    index, looks = Index(), list[int]()

    def colour(entry: Entry) -> str:
        looks.append(entry.revision)
        return entry.value.decode()

    for number in range(1_000):
        put(index, f"/a/b/{number}", b"red" if number % 100 else b"blue")
    for after in range(500):
        assert len(index.history("/a/b/", after, Topic(colour, "blue"))) == 10 - -(-after // 100)
    assert len(looks) == 1_000
    index.forget(900)
    assert index.history("/a/b/", 900, Topic(colour, "blue")) == [index.since(900)[0]]


def test_superseded_names_what_no_reader_can_ask_for_any_more() -> None:
    index = Index()
    put(index, "/a/1")
    put(index, "/a/1")
    put(index, "/a/2")
    delete(index, "/a/2")
    put(index, "/a/1")
    assert sorted(index.superseded(4)) == [1, 3, 4]
    index.forget(4)
    assert index.superseded(5) == [2]
    index.forget(2)
    assert index.compacted == 4


def test_what_readers_keep_on_superseded_entries_is_dropped_after_a_while() -> None:
    index = Index()
    first = put(index, "/a/1")
    kept = put(index, "/a/2")
    gone = put(index, "/a/3")
    second = put(index, "/a/1")
    deleted = delete(index, "/a/3")
    for entry in (first, kept, gone, second, deleted):
        entry.memo = "rendered"
    for _ in range(500):
        put(index, "/b/1")
    assert first.memo == "rendered"
    for _ in range(500):
        put(index, "/b/1")
    assert (first.memo, gone.memo, deleted.memo) == (None, None, None)
    assert (kept.memo, second.memo) == ("rendered", "rendered")
