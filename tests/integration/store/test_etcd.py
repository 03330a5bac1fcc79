"""The store on real etcds: conformance, several servers, compaction behind one's back, members that die."""

import asyncio
import contextlib
import json
import random
import signal
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.base.errors import CorralError
from corral.store.compaction import CompactionPolicy
from corral.store.etcd.address import parse
from corral.store.etcd.client import EtcdClient
from corral.store.etcd.store import EtcdStore
from corral.store.protocol import Compacted, Conflict, Entry, Full, Store, Unavailable
from corral.testing.store_suite import StoreSuite, changes_of, wrote

from .etcd_cluster import EtcdCluster, cluster, installed

pytestmark = pytest.mark.skipif(not installed(), reason="etcd is not installed (Debian: etcd-server)")


class TestEtcdStore(StoreSuite):
    durable = True
    ordered = False
    examples = 8

    _running: dict[Path, EtcdCluster]

    @pytest.fixture(autouse=True)
    def etcds(self) -> Iterator[None]:
        self._running = {}
        yield
        for running in self._running.values():
            running.stop()

    async def open_store(self, directory: Path) -> Store:
        if directory not in self._running:
            made = EtcdCluster(directory)
            self._running[directory] = made
            await asyncio.to_thread(made.start)
        return await EtcdStore.open(self._running[directory].address)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdCluster]:
    with cluster(tmp_path) as made:
        yield made


@pytest.fixture
def three(tmp_path: Path) -> Iterator[EtcdCluster]:
    with cluster(tmp_path, 3) as made:
        yield made


@pytest.fixture
async def stores(etcd: EtcdCluster) -> AsyncIterator[tuple[EtcdStore, EtcdStore]]:
    """Two servers' stores on one etcd."""
    one, other = await EtcdStore.open(etcd.address), await EtcdStore.open(etcd.address)
    yield one, other
    await one.close()
    await other.close()


async def test_servers_see_each_others_writes_and_only_one_wins(stores: tuple[EtcdStore, EtcdStore]) -> None:
    one, other = stores
    entry = wrote(await one.create("/a/b", b"0"))
    await other.refresh()
    seen = other.get("/a/b")
    assert seen is not None
    assert (seen.value, seen.revision) == (b"0", entry.revision)
    outcomes = await asyncio.gather(*(store.update("/a/b", b"1", entry.revision) for store in stores for _ in range(5)))
    assert sum(isinstance(outcome, Entry) for outcome in outcomes) == 1
    watch = other.watch("/a/", after=0)
    assert [change.entry.revision for change in await changes_of(watch, 2)] == [1, 2]
    watch.close()


async def test_counters_of_two_servers_lose_nothing(stores: tuple[EtcdStore, EtcdStore]) -> None:
    wrote(await stores[0].create("/n", b"0"))
    await stores[1].refresh()

    async def count(store: EtcdStore) -> None:
        for _ in range(40):
            while True:
                found = store.get("/n")
                assert found is not None
                if isinstance(await store.update("/n", b"%d" % (int(found.value) + 1), found.revision), Entry):
                    break

    await asyncio.gather(*map(count, stores))
    await stores[0].refresh()
    found = stores[0].get("/n")
    assert found is not None
    assert found.value == b"80"


async def test_what_others_keep_in_the_same_etcd_is_not_ours(etcd: EtcdCluster) -> None:
    client = EtcdClient(etcd.address)
    await client.open()
    await client.swap("theirs", b"1", 0)
    store = await EtcdStore.open(etcd.address)
    watch = store.watch("/", after=store.revision)
    await client.swap("theirs", b"2", 2)
    entry = wrote(await store.create("/a/b", b""))
    assert [change.entry.key for change in await changes_of(watch, 1)] == ["/a/b"]
    assert [found.key for found in store.current("/")[0]] == ["/a/b"]
    assert entry.revision == 3
    await store.close()
    await client.close()


async def test_readers_list_again_when_history_was_compacted_beyond_what_was_seen(etcd: EtcdCluster) -> None:
    store, other = await EtcdStore.open(etcd.address), await EtcdStore.open(etcd.address)
    wrote(await store.create("/a/1", b"1"))
    watch = store.watch("/a/", after=1)
    # The store's watch sleeps while others write and compact.
    assert store._watching is not None
    store._watching.cancel()
    await other.refresh()
    wrote(await other.update("/a/1", b"2", 1))
    wrote(await other.create("/a/2", b"3"))
    await other.compact(3)
    store._restart_watch()
    await store.refresh()
    with pytest.raises(Compacted):
        await anext(aiter(watch))
    assert [(entry.key, entry.value) for entry in store.current("/a/")[0]] == [("/a/1", b"2"), ("/a/2", b"3")]
    assert store.compacted == 3
    assert wrote(await store.create("/a/3", b"")).revision == 4
    await store.close()
    await other.close()


async def test_many_who_wait_restart_the_watch_once(etcd: EtcdCluster) -> None:
    store = await EtcdStore.open(etcd.address)
    store._restart_watch()
    anew = store._watching
    store._restart_watch()
    assert store._watching is anew
    wrote(await store.create("/a", b""))
    await store.close()


async def test_history_is_compacted_by_itself(etcd: EtcdCluster) -> None:
    store = await EtcdStore.open(etcd.address, policy=CompactionPolicy(keep=20, seconds=0.0, most=40, step=10))
    entry = wrote(await store.create("/a", b""))
    for number in range(100):
        entry = wrote(await store.update("/a", b"%d" % number, entry.revision))
    assert store.compacted > 0
    await store.close()
    again = await EtcdStore.open(etcd.address)
    assert again.compacted > 0
    found = again.get("/a")
    assert found is not None
    assert (found.value, found.revision) == (b"99", 101)
    await again.close()


async def test_an_etcd_at_its_quota_refuses_by_name_and_lets_go_of_what_is_deleted(tmp_path: Path) -> None:
    with cluster(tmp_path, 1, "--quota-backend-bytes", str(4 << 20)) as etcd:
        store = await EtcdStore.open(etcd.address)
        written: list[Entry] = []
        with contextlib.suppress(Full):
            while len(written) < 100:
                entry = await store.create(f"/a/{len(written)}", bytes(200_000))
                assert isinstance(entry, Entry)
                written.append(entry)
        with pytest.raises(Full, match="quota") as caught:
            await store.create("/b", b"")
        assert "alarm disarm" in caught.value.remedy
        for entry in written:
            assert isinstance(await store.delete(entry.key, entry.revision), Entry)
        assert store.get("/b") is None
        await store.compact(store.revision)
        await asyncio.to_thread(_make_room, etcd)
        assert isinstance(await store.create("/b", b""), Entry)
        await store.close()


def _make_room(etcd: EtcdCluster) -> None:
    """What `etcdctl defrag` and `etcdctl alarm disarm` do."""

    def post(what: str, body: object) -> Any:
        url = f"http://127.0.0.1:{etcd.clients[0]}/v3/maintenance/{what}"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=10) as answer:
            return json.load(answer)

    post("defragment", {})
    for alarm in post("alarm", {"action": "GET"})["alarms"]:
        post("alarm", {"action": "DEACTIVATE", **alarm})


async def test_an_etcd_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"etcd://127\.0\.0\.1:1"):
        await EtcdStore.open(parse("etcd://127.0.0.1:1"))


async def test_the_watch_goes_on_after_etcd_was_restarted(etcd: EtcdCluster) -> None:
    store = await EtcdStore.open(etcd.address)
    watch = store.watch("/a/", after=0)
    wrote(await store.create("/a/1", b""))
    await asyncio.to_thread(etcd.kill, 0)
    with pytest.raises(Unavailable):
        await store.create("/a/2", b"")
    await asyncio.to_thread(etcd.start)
    wrote(await store.create("/a/3", b""))
    assert [change.entry.key for change in await changes_of(watch, 2)] == ["/a/1", "/a/3"]
    await store.close()


async def test_a_member_that_hangs_costs_less_than_a_lease(three: EtcdCluster) -> None:
    """A machine whose lease cannot be renewed for 5 s kills its pods; one hanging member must not do that to all."""
    store = await EtcdStore.open(three.address)
    written = 0
    for frozen in range(3):
        three.signal(frozen, signal.SIGSTOP)
        began = asyncio.get_running_loop().time()
        while True:
            written += 1
            try:
                await store.create(f"/a/{written}", b"")
                break
            except Unavailable:
                assert asyncio.get_running_loop().time() - began < 4.0
        three.signal(frozen, signal.SIGCONT)
        assert asyncio.get_running_loop().time() - began < 4.0
    await store.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_a_lost_leader_loses_no_acknowledged_write(three: EtcdCluster, how: signal.Signals) -> None:
    """Writers on two servers while leaders die and come back: what was acknowledged is there, once, in order."""
    stores = [await EtcdStore.open(three.address) for _ in range(2)]
    acknowledged: dict[str, tuple[int, bytes]] = {}
    stop = asyncio.Event()
    seen: list[int] = []
    arrived = asyncio.Condition()

    async def write(number: int) -> None:
        store, rng = stores[number % 2], random.Random(number)
        while not stop.is_set():
            key = f"/w/{number}/{rng.randrange(5)}"
            value = b"%d" % rng.getrandbits(60)
            current = store.get(key)
            try:
                outcome = await (store.update(key, value, current.revision) if current else store.create(key, value))
            except CorralError:
                # Nobody knows whether it was made: whatever is there from now on is what counts.
                acknowledged.pop(key, None)
                continue
            if isinstance(outcome, Conflict):
                acknowledged.pop(key, None)
            else:
                acknowledged[key] = (outcome.revision, value)

    async def read() -> None:
        watch = stores[0].watch("/w/", after=0)
        async for batch in watch:
            seen.extend(change.entry.revision for change in batch)
            async with arrived:
                arrived.notify_all()

    async def more() -> None:
        """Return when thirty more writes have been seen."""
        wanted = len(seen) + 30
        async with asyncio.timeout(40), arrived:
            await arrived.wait_for(lambda: len(seen) >= wanted)

    reader = asyncio.create_task(read())
    writers = [asyncio.create_task(write(number)) for number in range(6)]
    for _ in range(2 if how is signal.SIGKILL else 1):
        await more()
        leader = await asyncio.to_thread(three.leader)
        three.signal(leader, how)
        await more()
        if how is signal.SIGKILL:
            await asyncio.to_thread(three.kill, leader)
            await asyncio.to_thread(three.start, [leader])
        else:
            three.signal(leader, signal.SIGCONT)
    stop.set()
    await asyncio.gather(*writers)
    fresh = await EtcdStore.open(three.address)
    for key, (revision, value) in acknowledged.items():
        found = fresh.get(key)
        assert found is not None, key
        assert (found.revision, found.value) == (revision, value) or found.revision > revision
    assert acknowledged
    await stores[0].refresh()
    reader.cancel()
    assert seen == sorted(set(seen)), "each change once and in order"
    for store in (*stores, fresh):
        await store.close()
