"""What every store must do: subclass `StoreSuite`, say how to open a store, and run it with pytest.

    class TestMemoryStore(StoreSuite):
        async def open_store(self, directory: Path) -> Store:
            return MemoryStore()

A store that keeps its state on disk sets `durable = True`; opening the same directory again must then find it.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.base.errors import CorralError
from corral.store.protocol import Change, Compacted, Conflict, Entry, Future, Store, Topic, Watch

_KEYS = ["/core/pods/a/x", "/core/pods/a/y", "/core/pods/b/x", "/core/podsets/a/x", "/core/nodes/n", "/apps/pods/a/x"]
_PREFIXES = ["/", "/core/", "/core/pods/", "/core/pods/a/", "/core/pods", "/core/pods/a/x", "/nothing/"]


def wrote(outcome: Entry | Conflict) -> Entry:
    """The entry of a write that must not have lost."""
    assert isinstance(outcome, Entry), outcome
    return outcome


async def changes_of(watch: Watch, count: int) -> list[Change]:
    """The next `count` changes of a watch."""
    changes: list[Change] = []
    async for batch in watch:
        assert batch, "a batch has at least one change"
        changes += batch
        if len(changes) >= count:
            break
    assert len(changes) == count
    return changes


class StoreSuite:
    """The conformance suite of `corral.store.protocol.Store`."""

    durable = False
    examples = 60
    ordered = True
    """Whether writes to different keys that are asked for at once get their revisions in that order."""

    async def open_store(self, directory: Path) -> Store:
        """A store in `directory`; empty if nothing was there."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = await self.open_store(tmp_path)
        yield store
        await store.close()

    async def test_an_empty_store_is_at_revision_zero(self, store: Store) -> None:
        assert (store.revision, store.compacted) == (0, 0)
        assert store.get("/a/b") is None
        assert store.current("/") == ((), 0)

    async def test_revisions_start_at_one_and_have_no_gaps(self, store: Store) -> None:
        first = wrote(await store.create("/a/b/1", b"one"))
        second = wrote(await store.create("/a/b/2", b"two"))
        third = wrote(await store.update("/a/b/1", b"three", first.revision))
        assert [first.revision, second.revision, third.revision] == [1, 2, 3]
        assert (third.created, third.value) == (1, b"three")
        assert store.revision == 3

    async def test_a_lost_race_is_a_value_and_costs_no_revision(self, store: Store) -> None:
        entry = wrote(await store.create("/a/b", b"1"))
        for outcome in (
            await store.create("/a/b", b"2"),
            await store.update("/a/b", b"2", 7),
            await store.update("/a/b", b"2", 0),
            await store.delete("/a/b", 7),
        ):
            assert isinstance(outcome, Conflict)
            assert outcome.current is entry
        assert await store.update("/a/none", b"2", 1) == Conflict(None)
        assert await store.update("/a/none", b"2", 0) == Conflict(None)
        assert await store.delete("/a/none", 0) == Conflict(None)
        assert store.revision == 1
        assert store.get("/a/b") is entry

    async def test_a_delete_answers_with_the_last_value_and_its_own_revision(self, store: Store) -> None:
        wrote(await store.create("/a/b", b"1"))
        gone = wrote(await store.delete("/a/b", 1))
        assert (gone.value, gone.revision, gone.created) == (b"1", 2, 1)
        assert store.get("/a/b") is None
        again = wrote(await store.create("/a/b", b"2"))
        assert (again.revision, again.created) == (3, 3)

    async def test_writes_at_once_to_one_key_behave_as_if_one_came_after_the_other(self, store: Store) -> None:
        wrote(await store.create("/a/b", b"0"))
        outcomes = await asyncio.gather(
            store.update("/a/b", b"1", 1),
            store.update("/a/b", b"2", 1),
            store.update("/a/b", b"3", 2),
            store.delete("/a/b", 3),
            store.create("/a/b", b"4"),
            store.create("/a/b", b"5"),
        )
        entries = [outcome for outcome in outcomes if isinstance(outcome, Entry)]
        assert [entry.value for entry in entries] == [b"1", b"3", b"3", b"4"]
        assert [entry.revision for entry in entries] == [2, 3, 4, 5]
        assert isinstance(outcomes[1], Conflict)
        assert outcomes[1].current is entries[0]
        assert store.get("/a/b") is entries[3]

    async def test_keys_start_with_a_slash(self, store: Store) -> None:
        with pytest.raises(CorralError, match="start with '/'"):
            await store.create("a/b", b"")

    @pytest.mark.parametrize("value", [b"", b"\x00\xff'\"", b"x" * 3_000_000], ids=["empty", "binary", "large"])
    async def test_values_are_any_bytes(self, store: Store, value: bytes) -> None:
        await asyncio.gather(store.create("/a/1", value), store.create("/a/2", value), store.create("/a/\u00fc", value))
        assert [entry.value for entry in store.current("/a/")[0]] == [value] * 3

    async def test_a_listing_pages_in_key_order_and_says_what_remains(self, store: Store) -> None:
        for name in "dbaec":
            wrote(await store.create(f"/a/b/{name}", name.encode()))
        wrote(await store.create("/a/bb/z", b"other"))
        first = await store.list("/a/b/", limit=2)
        assert [entry.key[-1] for entry in first.entries] == ["a", "b"]
        assert (first.more, first.remaining, first.revision) == (True, 3, 6)
        rest = await store.list("/a/b/", limit=3, after="/a/b/b")
        assert [entry.key[-1] for entry in rest.entries] == ["c", "d", "e"]
        assert (rest.more, rest.remaining) == (False, 0)
        assert (await store.list("/a/b/", after="/a/b/e")).entries == ()

    async def test_pages_of_one_listing_show_one_revision(self, store: Store) -> None:
        for name in "abcd":
            wrote(await store.create(f"/a/{name}", b"old"))
        page = await store.list("/a/", limit=2)
        wrote(await store.update("/a/c", b"new", 3))
        wrote(await store.delete("/a/d", 4))
        wrote(await store.create("/a/bb", b"new"))
        rest = await store.list("/a/", revision=page.revision, limit=2, after="/a/b")
        assert [(entry.key, entry.value) for entry in rest.entries] == [("/a/c", b"old"), ("/a/d", b"old")]
        assert (rest.revision, rest.more) == (4, False)
        assert [entry.key for entry in (await store.list("/a/")).entries] == ["/a/a", "/a/b", "/a/bb", "/a/c"]

    async def test_a_revision_to_come_cannot_be_listed_or_watched(self, store: Store) -> None:
        with pytest.raises(Future):
            await store.list("/", revision=1)
        with pytest.raises(Future):
            store.watch("/", after=1)

    async def test_a_watch_sees_every_change_under_its_prefix_once_and_in_order(self, store: Store) -> None:
        watch = store.watch("/a/", after=0)
        wrote(await store.create("/a/x", b"1"))
        wrote(await store.create("/b/x", b"1"))
        wrote(await store.update("/a/x", b"2", 1))
        wrote(await store.delete("/a/x", 3))
        changes = await changes_of(watch, 3)
        assert [(c.type, c.entry.revision, c.entry.value) for c in changes] == [
            ("put", 1, b"1"),
            ("put", 3, b"2"),
            ("delete", 4, b"2"),
        ]
        assert [c.previous.value if c.previous else None for c in changes] == [None, b"1", b"2"]
        watch.close()

    async def test_what_has_arrived_can_be_taken_without_waiting(self, store: Store) -> None:
        watch = store.watch("/a/", after=0, buffer=2)
        assert watch.take() == []
        for number in range(3):
            wrote(await store.create(f"/a/{number}", b""))
            wrote(await store.create(f"/b/{number}", b""))
            if number:
                assert [change.entry.key for change in watch.take()] == (["/a/0", "/a/1"] if number == 1 else ["/a/2"])
                assert watch.progress() == store.revision
        assert watch.take() == []
        reader = asyncio.create_task(changes_of(watch, 1))
        wrote(await store.create("/a/3", b""))
        assert [change.entry.key for change in await reader] == ["/a/3"]
        for number in range(4, 7):
            wrote(await store.create(f"/a/{number}", b""))
        with pytest.raises(Compacted):
            watch.take()

    async def test_a_watch_resumes_after_a_revision(self, store: Store) -> None:
        for number in range(5):
            wrote(await store.create(f"/a/{number}", b""))
        watch = store.watch("/a/", after=3)
        assert [change.entry.revision for change in await changes_of(watch, 2)] == [4, 5]
        wrote(await store.create("/a/9", b""))
        assert [change.entry.revision for change in await changes_of(watch, 1)] == [6]
        watch.close()

    async def test_a_watch_by_topic_sees_what_is_or_was_of_it(self, store: Store) -> None:
        wrote(await store.create("/a/x", b"blue"))
        watches = [store.watch("/a/", after=0, only=Topic(_text, colour)) for colour in ("blue", "red", "blue")]
        wrote(await store.update("/a/x", b"red", 1))
        wrote(await store.create("/a/y", b"green"))
        wrote(await store.update("/a/x", b"green", 2))
        wrote(await store.create("/b/z", b"red"))
        wrote(await store.create("/a/z", b"blue"))
        for watch, revisions in zip(watches, ([1, 2, 6], [2, 4], [1, 2, 6]), strict=True):
            assert [change.entry.revision for change in await changes_of(watch, len(revisions))] == revisions
            assert watch.progress() == 6
            watch.close()

    async def test_a_listing_by_topic_shows_what_is_of_it_now_or_was_then(self, store: Store) -> None:
        blue = Topic(_text, "blue")
        for name in "xyz":
            wrote(await store.create(f"/a/{name}", b"blue"))
        wrote(await store.create("/b/x", b"blue"))
        first = await store.list("/a/", limit=2, only=blue)
        assert ([entry.key for entry in first.entries], first.remaining) == (["/a/x", "/a/y"], 1)
        wrote(await store.update("/a/x", b"red", 1))
        wrote(await store.delete("/a/z", 3))
        wrote(await store.create("/a/w", b"blue"))
        rest = await store.list("/a/", revision=first.revision, limit=2, after="/a/y", only=blue)
        assert ([entry.key for entry in rest.entries], rest.more) == (["/a/z"], False)
        entries, revision = store.current("/a/", blue)
        assert ([entry.key for entry in entries], revision) == (["/a/w", "/a/y"], 7)
        await store.compact(7)
        wrote(await store.update("/a/x", b"blue", 5))
        assert [entry.key for entry in store.current("/a/", blue)[0]] == ["/a/w", "/a/x", "/a/y"]
        assert store.current("/a/", Topic(_text, "green"))[0] == ()

    async def test_a_prefix_is_any_leading_text(self, store: Store) -> None:
        watches = [store.watch(prefix, after=0) for prefix in ("/", "/a/b", "/a/b/c", "/a/b/c/d")]
        wrote(await store.create("/a/b/c", b""))
        wrote(await store.create("/a/bb", b""))
        wrote(await store.create("/a/b/c/d", b""))
        for watch, revisions in zip(watches, ([1, 2, 3], [1, 2, 3], [1, 3], [3]), strict=True):
            assert [change.entry.revision for change in await changes_of(watch, len(revisions))] == revisions
            watch.close()

    async def test_a_reader_that_falls_behind_is_told_to_list_again(self, store: Store) -> None:
        slow = store.watch("/a/", after=0, buffer=3)
        quick = store.watch("/a/", after=0, buffer=100)
        for number in range(4):
            wrote(await store.create(f"/a/{number}", b""))
        with pytest.raises(Compacted):
            await anext(aiter(slow))
        assert len(await changes_of(quick, 4)) == 4
        quick.close()

    async def test_a_closed_watch_ends_also_for_a_reader_who_waits(self, store: Store) -> None:
        watch = store.watch("/a/", after=0)

        async def read() -> list[Sequence[Change]]:
            return [batch async for batch in watch]

        reader = asyncio.create_task(read())
        await asyncio.sleep(0)
        watch.close()
        watch.close()
        assert await reader == []

    async def test_a_cancelled_reader_loses_nothing(self, store: Store) -> None:
        watch = store.watch("/a/", after=0)
        reader = asyncio.ensure_future(changes_of(watch, 1))
        await asyncio.sleep(0)
        reader.cancel()
        wrote(await store.create("/a/1", b""))
        assert [change.entry.revision for change in await changes_of(watch, 1)] == [1]
        watch.close()

    async def test_progress_covers_what_was_delivered_and_what_does_not_concern_the_watch(self, store: Store) -> None:
        watch = store.watch("/a/", after=0)
        wrote(await store.create("/b/1", b""))
        assert watch.progress() == 1
        wrote(await store.create("/a/1", b""))
        wrote(await store.create("/b/2", b""))
        assert watch.progress() < 2
        await changes_of(watch, 1)
        assert watch.progress() == 3
        watch.close()

    async def test_compaction_forgets_history_and_keeps_what_is_current(self, store: Store) -> None:
        wrote(await store.create("/a/1", b"1"))
        wrote(await store.update("/a/1", b"2", 1))
        wrote(await store.create("/a/2", b"3"))
        wrote(await store.delete("/a/2", 3))
        await store.compact(4)
        assert store.compacted == 4
        assert [entry.value for entry in (await store.list("/a/", revision=4)).entries] == [b"2"]
        with pytest.raises(Compacted):
            await store.list("/a/", revision=3)
        with pytest.raises(Compacted):
            store.watch("/a/", after=3)
        await store.compact(2)
        assert store.compacted == 4
        with pytest.raises(Future):
            await store.compact(5)
        assert wrote(await store.create("/a/3", b"")).revision == 5

    async def test_a_closed_store_takes_no_writes_and_ends_its_watches(self, tmp_path: Path) -> None:
        if not self.durable:
            pytest.skip("a store that keeps nothing has nothing to protect after its end")
        store = await self.open_store(tmp_path)
        watch = store.watch("/", after=0)
        await store.close()
        await store.close()
        assert [batch async for batch in watch] == []
        with pytest.raises(CorralError, match="closed"):
            await store.create("/a/b", b"")

    def test_any_sequence_of_calls_agrees_with_a_dictionary(self) -> None:
        @settings(max_examples=self.examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.data())
        def play(data: st.DataObject) -> None:
            with tempfile.TemporaryDirectory() as directory:
                asyncio.run(self._play(Path(directory), data))

        play()

    async def _play(self, directory: Path, data: st.DataObject) -> None:
        model = _Model()
        store = await self.open_store(directory)
        watch = store.watch("/core/", after=0)
        for _ in range(data.draw(st.integers(1, 12), label="steps")):
            step = data.draw(st.sampled_from(["write"] * 6 + ["list", "list", "compact", "reopen"]), label="step")
            if step == "write":
                await model.write(store, data, at_once=self.ordered)
            elif step == "list":
                await model.check_listing(store, data)
            elif step == "compact":
                revision = data.draw(st.integers(0, store.revision), label="compact to")
                await store.compact(revision)
                model.compacted = max(model.compacted, revision)
            elif self.durable:
                await store.close()
                store = await self.open_store(directory)
                watch = store.watch("/core/", after=max(model.seen, model.compacted))
            model.check_state(store)
            await model.check_watch(watch)
        await store.close()


def _text(entry: Entry) -> str:
    return entry.value.decode()


def _length(entry: Entry) -> str:
    return str(len(entry.value))


@dataclass
class _Model:
    """The whole history as dictionaries: revision -> key -> (value, revision, created)."""

    history: list[dict[str, tuple[bytes, int, int]]] = field(default_factory=lambda: [{}])
    log: list[tuple[str, str, int]] = field(default_factory=list)
    compacted: int = 0
    seen: int = 0

    async def write(self, store: Store, data: st.DataObject, *, at_once: bool) -> None:
        """Several writes at once, drawn so that about half of them win."""
        writes = data.draw(
            st.lists(
                st.tuples(
                    st.sampled_from(["create", "update", "delete"]),
                    st.sampled_from(_KEYS),
                    st.binary(max_size=3),
                    st.booleans(),
                ),
                min_size=1,
                max_size=6,
            ),
            label="writes",
        )
        calls = []
        expected: list[tuple[bytes, int, int] | None] = []
        for verb, key, value, stale in writes:
            now = self.history[-1]
            found = now.get(key)
            revision = (found[1] if found else 1) + (1 if stale else 0)
            if verb == "create":
                calls.append(store.create(key, value))
                won = found is None
            else:
                calls.append(store.update(key, value, revision) if verb == "update" else store.delete(key, revision))
                won = found is not None and found[1] == revision
            expected.append(self._commit(verb, key, value) if won else None)
        outcomes = await asyncio.gather(*calls) if at_once else [await call for call in calls]
        for outcome, wanted in zip(outcomes, expected, strict=True):
            got = (outcome.value, outcome.revision, outcome.created) if isinstance(outcome, Entry) else None
            assert got == wanted

    def _commit(self, verb: str, key: str, value: bytes) -> tuple[bytes, int, int]:
        revision = len(self.history)
        before = self.history[-1]
        found = before.get(key)
        if verb == "delete":
            assert found is not None
            self.history.append({other: kept for other, kept in before.items() if other != key})
            record = (found[0], revision, found[2])
        else:
            record = (value, revision, found[2] if found else revision)
            self.history.append({**before, key: record})
        self.log.append(("delete" if verb == "delete" else "put", key, revision))
        return record

    async def check_listing(self, store: Store, data: st.DataObject) -> None:
        prefix = data.draw(st.sampled_from(_PREFIXES), label="prefix")
        revision = data.draw(st.integers(0, len(self.history) - 1), label="revision")
        limit = data.draw(st.integers(0, 3), label="limit")
        if 0 < revision < self.compacted:
            with pytest.raises(Compacted):
                await store.list(prefix, revision=revision)
            return
        at = self.history[revision] if revision else self.history[-1]
        found: list[tuple[str, bytes, int]] = []
        length = data.draw(st.sampled_from([None, 0, 1, 2]), label="length of values")
        only = None if length is None else Topic(_length, str(length))
        page = await store.list(prefix, revision=revision, limit=limit, only=only)
        found += [(entry.key, entry.value, entry.revision) for entry in page.entries]
        while page.more:
            page = await store.list(prefix, revision=page.revision, limit=limit, after=found[-1][0], only=only)
            found += [(entry.key, entry.value, entry.revision) for entry in page.entries]
        wanted = [(key, *at[key][:2]) for key in sorted(at) if key.startswith(prefix)]
        assert found == [one for one in wanted if length is None or len(one[1]) == length]

    def check_state(self, store: Store) -> None:
        assert store.revision == len(self.history) - 1
        assert store.compacted == self.compacted
        for prefix in _PREFIXES:
            entries, revision = store.current(prefix)
            assert revision == store.revision
            wanted = {key: record for key, record in self.history[-1].items() if key.startswith(prefix)}
            assert {entry.key: (entry.value, entry.revision, entry.created) for entry in entries} == wanted
            filed = [entry for length in range(4) for entry in store.current(prefix, Topic(_length, str(length)))[0]]
            assert len(filed) == len(entries)
            assert set(filed) == set(entries)
        for key in _KEYS:
            entry = store.get(key)
            assert (entry is None) == (key not in self.history[-1])

    async def check_watch(self, watch: Watch) -> None:
        wanted = [change for change in self.log if change[2] > self.seen and change[1].startswith("/core/")]
        if wanted:
            changes = await changes_of(watch, len(wanted))
            assert [(change.type, change.entry.key, change.entry.revision) for change in changes] == wanted
        self.seen = len(self.history) - 1
        assert watch.progress() == self.seen
