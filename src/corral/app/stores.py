"""Which store a cell has: SQLite in its data directory, or an etcd."""

from pathlib import Path
from typing import TypeAlias

from corral.base.errors import CorralError
from corral.store.etcd.address import SCHEME, EtcdAddress, parse
from corral.store.etcd.store import EtcdStore
from corral.store.protocol import Store
from corral.store.sqlite import SqliteStore

_SQLITE = "sqlite://"
StoreAddress: TypeAlias = Path | EtcdAddress


def read_address(text: str, data_dir: Path) -> StoreAddress:
    """The address that a person gave: nothing is the data directory's own SQLite.

    Raises:
        CorralError: it makes no sense.
    """
    if not text:
        return data_dir / "store.db"
    if text.startswith(_SQLITE):
        path = Path(text[len(_SQLITE) :])
        if not path.is_absolute():
            raise CorralError(f"cannot use {text}: its path must be absolute", "write sqlite:///PATH/store.db")
        return path
    if text.startswith(f"{SCHEME}://"):
        return parse(text)
    raise CorralError(f"cannot use {text} as a store", "write sqlite:///PATH or etcd://HOST:PORT,...?ca=FILE")


async def open_store(address: StoreAddress) -> Store:
    """Open it.

    Raises:
        CorralError: it cannot be used.
    """
    return await (SqliteStore.open(address) if isinstance(address, Path) else EtcdStore.open(address))
