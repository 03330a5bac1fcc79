"""Backups that a cell makes of itself, one an hour while something changes; the older they are, the fewer are kept."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from corral.base.clock import Clock, rfc3339
from corral.base.errors import CorralError
from corral.store import backup
from corral.store.protocol import Store

_log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 3600.0
_SUFFIX: Final = ".corral-backup"
_FORM: Final = f"%Y%m%dT%H%M%SZ{_SUFFIX}"
_HOURS, _DAYS = 24, 7


class Snapshots:
    """Writes `store` to `directory` until cancelled."""

    def __init__(self, directory: Path, store: Store, clock: Clock) -> None:
        self._directory = directory
        self._store = store
        self._clock = clock
        self._latest = -1

    async def run(self) -> None:
        """Back up for ever; a disk that fails is a warning, and the next hour another try."""
        while True:
            await self._clock.sleep(EVERY_SECONDS)
            try:
                await self.take()
            except (CorralError, OSError) as error:
                _log.warning("cannot back up the cell: %s", error)

    async def take(self) -> Path | None:
        """Back up now, and forget what is too old; the file, or None if nothing has changed since the last one."""
        entries, revision = self._store.current("/")
        if revision == self._latest:
            return None
        now = self._clock.now()
        path = self._directory / now.strftime(_FORM)
        # Entries never change, so that another thread may read them while the cell goes on.
        await asyncio.to_thread(self._write, path, backup.lines(entries, revision, rfc3339(now)))
        self._latest = revision
        for old in surplus(sorted(self._directory.glob(f"*{_SUFFIX}")), now):
            old.unlink(missing_ok=True)
        return path

    def _write(self, path: Path, content: Iterable[bytes]) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        backup.write(path, content)


def surplus(paths: Sequence[Path], now: datetime) -> list[Path]:
    """Which backups to forget: all of the last day stay, then the last of each day for a week. Foreign files stay."""
    gone: list[Path] = []
    kept_days: set[str] = set()
    for path in sorted(paths, reverse=True):
        try:
            taken = datetime.strptime(path.name, _FORM).replace(tzinfo=now.tzinfo)
        except ValueError:
            continue
        age, day = now - taken, path.name[:8]
        if age > timedelta(hours=_HOURS) and (age > timedelta(days=_DAYS) or day in kept_days):
            gone.append(path)
        kept_days.add(day)
    return gone
