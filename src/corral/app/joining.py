"""One more server for a cell: it takes the cell's authority and the place of its state from a server that runs."""

import asyncio
import base64
import binascii
from pathlib import Path
from typing import Any

from aiohttp import web

from corral.apiserver.auth.api import User
from corral.apiserver.auth.files import make_private_directory, write_private
from corral.apiserver.auth.pki import MASTERS
from corral.app.config import CellConfig
from corral.app.stores import read_address
from corral.base.errors import CorralError
from corral.cli.session import connect
from corral.kinds.status import StatusError, conflict, forbidden

PATH = "/apis/corral.dev/v1/authorities/cell"
_FILES = ("ca.key", "ca.crt", "sa.key")


def authority(config: CellConfig, user: User) -> web.Response:
    """What a new server needs, for the first administrators only: a role that some other user was given is not enough.

    Raises:
        StatusError: 403; 409, the cell's state is on this server's own disk.
    """
    if MASTERS not in user.groups:
        raise forbidden("corral.dev", "authorities", "cell", f"only members of {MASTERS} may add servers")
    if isinstance(read_address(config.store, config.data_dir), Path):
        raise conflict(
            "corral.dev",
            "authorities",
            "cell",
            "this cell keeps its state in SQLite on one machine; move it to etcd first (corral store migrate)",
        )
    files = {name: base64.b64encode((config.data_dir / "pki" / name).read_bytes()).decode() for name in _FILES}
    return web.json_response({"store": config.store, "files": files})


def join(config: CellConfig, kubeconfig: Path) -> str:
    """Fetch the authority with an administrator's kubeconfig; gives the store's URL.

    Raises:
        CorralError: the server refuses or cannot be reached, or this data directory belongs to another cell.
    """
    answer = asyncio.run(_fetch(kubeconfig))
    try:
        files = {name: base64.b64decode(answer["files"][name], validate=True) for name in _FILES}
        store = str(answer["store"])
    except (KeyError, TypeError, binascii.Error) as error:
        raise CorralError("cannot read the server's answer", "run the same version of Corral on both") from error
    directory = config.data_dir / "pki"
    present = directory / "ca.crt"
    if present.exists() and present.read_bytes() != files["ca.crt"]:
        raise CorralError(
            f"cannot join with {config.data_dir}: it belongs to another cell", "choose another --data-dir"
        )
    try:
        make_private_directory(directory)
        for name, content in files.items():
            write_private(directory / name, content)
    except OSError as error:
        raise CorralError(
            f"cannot write to {directory}: {error.strerror}", "free space, or check its rights"
        ) from error
    return store


async def _fetch(kubeconfig: Path) -> dict[str, Any]:
    try:
        async with connect(str(kubeconfig), None, None) as session, session.open(PATH) as response:
            answer: dict[str, Any] = await response.json()
            return answer
    except StatusError as error:
        raise CorralError(f"cannot join: {error.message}", "use the kubeconfig of the cell's first server") from error
