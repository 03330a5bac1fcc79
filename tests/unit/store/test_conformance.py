"""Both stores pass the conformance suite."""

from pathlib import Path

from corral.store.memory import MemoryStore
from corral.store.protocol import Store
from corral.store.sqlite import SqliteStore
from corral.testing.store_suite import StoreSuite


class TestMemoryStore(StoreSuite):
    async def open_store(self, directory: Path) -> Store:
        return MemoryStore()


class TestSqliteStore(StoreSuite):
    durable = True

    async def open_store(self, directory: Path) -> Store:
        return await SqliteStore.open(directory / "state.db")
