"""Fan-out to watchers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.store.protocol import Change, Compacted, Entry, Topic
from corral.store.watchers import Watchers


def change(revision: int, key: str) -> Change:
    return Change("put", Entry(key, b"", revision, revision), None)


def latest() -> int:
    return 99


async def test_each_watcher_gets_its_own_prefix_only() -> None:
    watchers = Watchers()
    pods, web, nodes = (watchers.open(prefix, 0, [], 10, latest) for prefix in ("/pods/", "/pods/web/", "/nodes/"))
    batch = [change(1, "/pods/web/a"), change(2, "/pods/db/a"), change(3, "/nodes/a"), change(4, "/po")]
    watchers.publish(batch)
    assert list(await anext(pods)) == batch[:2]
    assert list(await anext(web)) == batch[:1]
    assert list(await anext(nodes)) == batch[2:3]


async def test_a_thousand_topics_cost_one_look_and_one_wake_up() -> None:
    looks: list[int] = []

    def machine(entry: Entry) -> str:
        looks.append(entry.revision)
        return entry.key.rpartition("-")[2]

    watchers = Watchers()
    opened = [watchers.open("/pods/", 0, [], 1, latest, Topic(machine, str(number))) for number in range(1000)]
    watchers.publish([change(1, "/pods/a-7"), change(2, "/pods/b-9")])
    assert looks == [1, 2]
    assert [number for number, watcher in enumerate(opened) if watcher._pending] == [7, 9]
    watchers.publish([change(3, "/pods/c-7")])
    with pytest.raises(Compacted):
        await anext(opened[7])
    assert len(watchers) == 999
    for watcher in opened:
        watcher.close()
    assert len(watchers) == 0
    assert watchers._lengths == {}


async def test_a_dropped_or_closed_watcher_leaves_nothing_behind() -> None:
    watchers = Watchers()
    slow, closed = watchers.open("/a/", 0, [], 1, latest), watchers.open("/b/", 0, [], 1, latest)
    watchers.publish([change(1, "/a/1"), change(2, "/a/2")])
    closed.close()
    assert len(watchers) == 0
    assert watchers._lengths == {}
    with pytest.raises(Compacted):
        await anext(slow)
    slow.close()


async def test_a_backlog_longer_than_the_buffer_can_be_read() -> None:
    watchers = Watchers()
    watcher = watchers.open("/a/", 0, [change(number, "/a/1") for number in range(1, 6)], 2, latest)
    watchers.publish([change(6, "/a/1")])
    assert len(await anext(watcher)) == 6
    watchers.publish([change(7, "/a/1"), change(8, "/a/1"), change(9, "/a/1")])
    with pytest.raises(Compacted):
        await anext(watcher)


async def test_closing_all_ends_every_iteration() -> None:
    watchers = Watchers()
    opened = [watchers.open("/a/", 0, [change(1, "/a/1")], 2, latest) for _ in range(3)]
    watchers.close()
    for watcher in opened:
        assert [batch async for batch in watcher] == []


_PART = st.text("ab/", max_size=5)


@given(st.lists(_PART, max_size=6), st.lists(_PART, min_size=1, max_size=8), st.data())
async def test_every_watcher_gets_what_starts_with_its_prefix(
    names: list[str], keys: list[str], data: st.DataObject
) -> None:
    watchers = Watchers()
    changes = [change(number, f"/{key}") for number, key in enumerate(keys, start=1)]
    watchers.publish(changes)
    opened = [watchers.open(f"/{name}", 0, [], 100, latest) for name in names]
    gone = data.draw(st.sets(st.sampled_from(opened))) if opened else set()
    watchers.publish(changes)
    for watcher in gone:
        watcher.close()
    watchers.publish(changes)
    for watcher in set(opened) - gone:
        wanted = [one for one in changes if one.entry.key.startswith(watcher.prefix)]
        assert not wanted or list(await anext(watcher)) == 2 * wanted
        watcher.close()
    assert watchers._lengths == watchers._partial == {}
