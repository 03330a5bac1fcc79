"""`corral store`: back up, restore and move a cell's state."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import click

from corral.apiserver.auth.files import make_private_directory
from corral.app import options
from corral.app.config import CellConfig
from corral.app.extensions import BACKUP_PATH
from corral.app.process import AlreadyRuns, sole_owner
from corral.app.stores import StoreAddress, open_store, read_address, remembered
from corral.base.clock import rfc3339
from corral.base.errors import CorralError
from corral.cli import terminal
from corral.cli.session import connect, finish
from corral.store import backup
from corral.store.backup import Item
from corral.store.protocol import Store

_STORE = click.option(
    "--store",
    "where",
    default="",
    metavar="URL",
    help="etcd://... or sqlite:///...; where the cell ran last by default.",
)


@click.group("store", short_help="Back up, restore and move a cell's state.")
def command() -> None:
    """The state of a cell: everything that was asked of it. To restore or move it, stop the cell first."""


@command.command("backup")
@options.data_dir
@_STORE
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
def back_up(data_dir: Path, where: str, file: Path) -> None:
    """Write all of the state to FILE. It holds the cell's secrets: keep it as you keep them.

    A cell that runs goes on meanwhile.
    """

    async def from_store(address: StoreAddress) -> None:
        async with _opened(address) as store:
            entries, revision = store.current("/")
            backup.write(file, backup.lines(entries, revision, rfc3339(datetime.now(UTC))))

    async def from_server() -> None:
        async with connect(None, str(data_dir), None) as session, session.open(BACKUP_PATH) as response:
            backup.save(file, await response.read())

    def work() -> None:
        try:
            _offline(data_dir, where, from_store)
        except AlreadyRuns:
            asyncio.run(from_server())
        content = backup.read(file)
        terminal.note(f"{len(content.records)} objects at revision {content.revision}")
        click.echo(file)

    finish(work)


@command.command("restore")
@options.data_dir
@_STORE
@click.option("--force", is_flag=True, help="Replace what is in the store now; a copy is kept.")
@click.option("--dry-run", is_flag=True, help="Verify FILE and say what it holds, and do nothing.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE")
def restore(data_dir: Path, where: str, force: bool, dry_run: bool, file: Path) -> None:
    """Fill an empty store from FILE, and compare the two object by object."""

    async def work(address: StoreAddress) -> None:
        content = backup.read(file)
        terminal.note(f"{file} has {len(content.records)} objects, taken {content.taken}")
        if not dry_run:
            await _fill(address, content.records, data_dir if force else None)

    _run(data_dir, where, work)


@command.command("migrate")
@options.data_dir
@_STORE
@click.option("--to", "target", required=True, metavar="URL", help="etcd://... or sqlite:///...")
@click.option("--force", is_flag=True, help="Replace what is in the target now; a copy is kept.")
@click.option("--dry-run", is_flag=True, help="Say what would move, and do nothing.")
def migrate(data_dir: Path, where: str, target: str, force: bool, dry_run: bool) -> None:
    """Copy all of the state to another store, and compare the two object by object; the old one stays as it is."""

    async def work(address: StoreAddress) -> None:
        destination = read_address(target, data_dir)
        if destination == address:
            raise CorralError(f"cannot move {address} to itself", "name another store with --to")
        async with _opened(address) as store:
            entries, revision = store.current("/")
            ordered = sorted(entries, key=lambda entry: entry.revision)
        terminal.note(f"{len(ordered)} objects of {address} at revision {revision}")
        if not dry_run:
            await _fill(destination, ordered, data_dir if force else None)
            terminal.note(f"start the cell on it: corral up --store {target}")

    _run(data_dir, where, work)


async def _fill(address: StoreAddress, items: Sequence[Item], replaced: Path | None) -> None:
    """Fill the store; what is in it now goes, and is kept in the data directory `replaced`, if that is given."""
    async with _opened(address, must_exist=False) as store:
        if replaced is not None:
            _keep(store, replaced / "backups")
            await backup.empty(store)
        with closing(_Progress()) as progress:
            await backup.fill(store, items, progress)
        _compare(store, items)
    click.echo(address)


def _keep(store: Store, directory: Path) -> None:
    """Back up what a store has before it is thrown away: whatever ends the filling, nothing is lost."""
    entries, revision = store.current("/")
    if not entries:
        return
    now = datetime.now(UTC)
    make_private_directory(directory)
    path = directory / now.strftime("replaced-%Y%m%dT%H%M%S.%fZ.corral-backup")
    backup.write(path, backup.lines(entries, revision, rfc3339(now)))
    terminal.note(f"what was in the store until now is kept in {path}")


def _compare(store: Store, items: Sequence[Item]) -> None:
    wrong = backup.differences(store, items)
    if wrong:
        raise CorralError(
            f"the copy differs in {len(wrong)} objects, the first is {wrong[0]}", "see that nobody else uses the store"
        )
    terminal.note(f"compared: all {len(items)} objects are the same")


class _Progress:
    """One line that is written over, on a terminal only."""

    def __call__(self, done: int, all_of_it: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\rcorral: {done}/{all_of_it}", err=True, nl=False)

    def close(self) -> None:
        if sys.stderr.isatty():
            click.echo("", err=True)


@asynccontextmanager
async def _opened(address: StoreAddress, *, must_exist: bool = True) -> AsyncIterator[Store]:
    if must_exist and isinstance(address, Path) and not address.exists():
        raise CorralError(f"cannot read {address}: no such file", "name the cell's --data-dir or its --store")
    store = await open_store(address)
    try:
        yield store
    finally:
        await store.close()


_Work: TypeAlias = Callable[[StoreAddress], Coroutine[Any, Any, None]]


def _run(data_dir: Path, where: str, work: _Work) -> None:
    def body() -> None:
        try:
            _offline(data_dir, where, work)
        except AlreadyRuns as error:
            raise CorralError(error.message, f"stop it first: corral down --data-dir {data_dir}") from error

    finish(body)


def _offline(data_dir: Path, where: str, work: _Work) -> None:
    """Do `work` while no server of this data directory runs.

    Raises:
        AlreadyRuns: one does.
    """
    config = CellConfig(data_dir.absolute())
    address = read_address(where or remembered(config.data_dir), config.data_dir)
    with sole_owner(config) if config.run_dir.is_dir() else nullcontext():
        asyncio.run(work(address))
