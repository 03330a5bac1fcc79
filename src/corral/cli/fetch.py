"""Files out of a pod: what `--get` brings back."""

import asyncio
import tarfile
import tempfile
from pathlib import Path

from corral.base.errors import CorralError
from corral.cli.session import Session


async def tree(session: Session, pod: str, volume: str, path: str, into: Path) -> int:
    """Copy `path` of a pod's volume below the directory `into`; returns how many files came.

    Raises:
        StatusError: there is no such path.
        CorralError: the archive holds something that would land outside of `into`.
    """
    where = f"/apis/corral.dev/v1/namespaces/{session.namespace}/pods/{pod}/files"
    clean = path.strip("/") or "."
    with tempfile.TemporaryFile() as spool:
        async with session.open(where, {"volume": volume, "path": clean}) as response:
            async for chunk in response.content.iter_chunked(1 << 18):
                spool.write(chunk)
        spool.seek(0)
        return await asyncio.to_thread(_extract, spool, into)


def _extract(spool: object, into: Path) -> int:
    count = 0
    with tarfile.open(fileobj=spool, mode="r:*") as archive:  # type: ignore[call-overload]
        for member in archive:
            try:
                archive.extract(member, into, filter="data")
            except tarfile.FilterError as error:
                raise CorralError(
                    f"cannot bring back {member.name}: {error}", "the program made a link that leads outside; remove it"
                ) from error
            count += member.isfile()
    return count
