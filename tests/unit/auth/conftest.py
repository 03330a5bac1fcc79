"""A store in memory with a few helpers, and a clock that stands still."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from corral.apiserver.auth.pki import Pki
from corral.store.memory import MemoryStore
from corral.store.protocol import Conflict
from corral.testing.clock import FakeClock

Put = Callable[..., Awaitable[None]]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def pki(tmp_path: Path, clock: FakeClock) -> Pki:
    return Pki.open(tmp_path / "pki", hosts=["cell.example"], clock=clock)


@pytest.fixture
def put(store: MemoryStore) -> Put:
    """`await put("core", "pods", obj)` writes an object, `await put("core", "pods", obj, gone=True)` removes it."""

    async def write(group: str, plural: str, obj: dict[str, Any], *, gone: bool = False) -> None:
        metadata = obj["metadata"]
        place = f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else metadata["name"]
        key = f"/{group}/{plural}/{place}"
        found = store.get(key)
        if gone:
            assert found is not None
            result = await store.delete(key, found.revision)
        elif found is None:
            result = await store.create(key, orjson.dumps(obj))
        else:
            result = await store.update(key, orjson.dumps(obj), found.revision)
        assert not isinstance(result, Conflict)

    return write
