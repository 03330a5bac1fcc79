"""Which store a cell has: SQLite in its data directory, or an etcd.

A cell remembers the store that it ran with. Without that, a start that does not name it would make an empty cell with
the same authority, and agents that find it would believe that nothing is wanted of them any more.
"""

from pathlib import Path
from typing import TypeAlias

from corral.apiserver.auth.files import write_private
from corral.base.errors import CorralError
from corral.store.etcd.address import SCHEME, EtcdAddress, parse
from corral.store.etcd.store import EtcdStore
from corral.store.protocol import Store
from corral.store.sqlite import SqliteStore

_SQLITE = "sqlite://"
_FILE = "store-url"
StoreAddress: TypeAlias = Path | EtcdAddress


def read_address(text: str, data_dir: Path) -> StoreAddress:
    """The address that a person gave: nothing is the data directory's own SQLite.

    Raises:
        CorralError: it makes no sense.
    """
    if not text:
        return data_dir / "store.db"
    if text.startswith(_SQLITE):
        path = text[len(_SQLITE) :]
        if not path.startswith("/"):
            raise CorralError(f"cannot use {text}: its path must be absolute", "write sqlite:///PATH/store.db")
        # Who is used to SQLAlchemy writes four slashes.
        return Path(f"/{path.lstrip('/')}")
    if text.startswith(f"{SCHEME}://"):
        return parse(text)
    raise CorralError(f"cannot use {text} as a store", "write sqlite:///PATH or etcd://HOST:PORT,...?ca=FILE")


def remembered(data_dir: Path) -> str:
    """The URL that the cell ran with last; empty for its own SQLite.

    Raises:
        CorralError: it cannot be read.
    """
    try:
        return (data_dir / _FILE).read_text().strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise CorralError(f"cannot read {error.filename}: {error.strerror}", "name the store with --store") from error


def remember(data_dir: Path, url: str) -> None:
    """What `remembered` gives from now on."""
    if url != remembered(data_dir):
        write_private(data_dir / _FILE, f"{url}\n".encode())


async def open_store(address: StoreAddress) -> Store:
    """Open it.

    Raises:
        CorralError: it cannot be used.
    """
    return await (SqliteStore.open(address) if isinstance(address, Path) else EtcdStore.open(address))
