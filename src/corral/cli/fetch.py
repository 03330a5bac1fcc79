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


def _check(member: tarfile.TarInfo, into: Path) -> None:
    """Refuse what an honest agent never sends, and what the library's filter has been led past before: hard links, and
    names that lie behind links of the archive's own.

    Raises:
        CorralError: it is not to be extracted.
    """
    if not (member.isreg() or member.isdir() or member.issym()):
        raise CorralError(f"cannot bring back {member.name}: it is no file, directory or link", "remove it")
    place = into
    for part in Path(member.name).parts[:-1]:
        place = place / part
        if place.is_symlink():
            raise CorralError(f"cannot bring back {member.name}: {place} is a link", f"remove {place}")


def _extract(spool: object, into: Path) -> int:
    count = 0
    with tarfile.open(fileobj=spool, mode="r:") as archive:  # type: ignore[call-overload]
        for member in archive:
            _check(member, into)
            try:
                archive.extract(member, into, filter="data")
            except tarfile.FilterError as error:
                raise CorralError(
                    f"cannot bring back {member.name}: {error}", "the program made a link that leads outside; remove it"
                ) from error
            count += member.isfile()
    return count
