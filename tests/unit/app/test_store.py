"""`corral store` on real stores in files."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from corral.app.store import command
from corral.app.stores import open_store, remember, remembered
from corral.base.errors import CorralError
from corral.store import backup
from corral.testing.store_suite import wrote

TAKEN = "2026-01-01T00:00:00Z"


def put(path: Path, keys: list[str]) -> None:
    async def write() -> None:
        store = await open_store(path)
        for key in keys:
            wrote(await store.create(key, b"value"))
        await store.close()

    asyncio.run(write())


def keys(path: Path) -> list[str]:
    async def read() -> list[str]:
        store = await open_store(path)
        found = [entry.key for entry in store.current("/")[0]]
        await store.close()
        return found

    return asyncio.run(read())


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    """A cell that has /old, and beside it a backup that has /new."""
    cell = tmp_path / "cell"
    cell.mkdir()
    put(cell / "store.db", ["/old"])
    put(tmp_path / "other.db", ["/new/1", "/new/2"])
    done = invoke("backup", "--data-dir", cell, "--store", f"sqlite:///{tmp_path}/other.db", tmp_path / "file")
    assert done.exit_code == 0, done.output
    return cell


def test_what_is_replaced_is_kept(cell: Path) -> None:
    file = cell.parent / "file"
    refused = invoke("restore", "--data-dir", cell, file)
    assert "not empty" in refused.output
    assert keys(cell / "store.db") == ["/old"]
    done = invoke("restore", "--data-dir", cell, "--force", file)
    assert done.exit_code == 0, done.output
    assert keys(cell / "store.db") == ["/new/1", "/new/2"]
    (kept,) = (cell / "backups").iterdir()
    assert str(kept) in done.output
    back = invoke("restore", "--data-dir", cell, "--force", kept)
    assert back.exit_code == 0, back.output
    assert keys(cell / "store.db") == ["/old"]


def test_nothing_is_lost_when_a_restore_is_interrupted(cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*arguments: object) -> None:
        raise CorralError("the power has gone")

    monkeypatch.setattr(backup, "fill", interrupted)
    done = invoke("restore", "--data-dir", cell, "--force", cell.parent / "file")
    assert "the power has gone" in done.output
    (kept,) = (cell / "backups").iterdir()
    assert [record.key for record in backup.read(kept).records] == ["/old"]


def test_a_cell_remembers_where_its_state_is(cell: Path, tmp_path: Path) -> None:
    assert remembered(cell) == ""
    remember(cell, f"sqlite://{tmp_path}/other.db")
    assert (cell / "store-url").stat().st_mode & 0o777 == 0o600
    done = invoke("migrate", "--data-dir", cell, "--to", f"sqlite://{tmp_path}/third.db")
    assert done.exit_code == 0, done.output
    assert keys(tmp_path / "third.db") == ["/new/1", "/new/2"]
    remember(cell, "")
    assert remembered(cell) == ""
