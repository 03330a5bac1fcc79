"""etcd's API, as its JSON gateway speaks it: the four calls that a store needs.

Numbers are texts and keys are base64 there (etcd.io, "gRPC gateway"). Calls go to one member; one that does not answer
is passed over for the next. One that takes a connection and says nothing (it is frozen, its packets are dropped) is
left as soon as another member answers; where all are slow, as on slow disks, nobody is left.
"""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from corral.base.errors import CorralError
from corral.store.etcd.address import EtcdAddress
from corral.store.protocol import Full, Unavailable
from corral.wire.sockets import guarded

_TIMEOUT = aiohttp.ClientTimeout(total=5.0, sock_connect=2.0)
_SUSPICIOUS_SECONDS = 0.7
"""A call without an answer for this long makes the client ask another member. A lease of 5 s must outlast it."""
_CONNECTIONS = 64
_EVERYTHING = base64.b64encode(b"\0").decode()
# A watch whose member has lost its leader must end instead of staying silent.
_HAS_LEADER = {"Grpc-Metadata-hasleader": "true"}
_PAGE = 500
_LATEST = {"key": _EVERYTHING, "limit": "1", "keys_only": True}
_TOO_LARGE = "request is too large"
_NO_SPACE = "database space exceeded"


class EtcdCompacted(CorralError):
    """The revision asked for is compacted; `revision` is the oldest that is there, if etcd said so."""

    def __init__(self, revision: int) -> None:
        super().__init__("the revision asked for is compacted")
        self.revision = revision


@dataclass(frozen=True, slots=True)
class KeyValue:
    """What a key holds; revisions are etcd's."""

    key: str
    value: bytes
    created: int
    modified: int


@dataclass(frozen=True, slots=True)
class Event:
    """One write; of a delete only key and `modified` are known."""

    deleted: bool
    kv: KeyValue


class EtcdClient:
    """Calls to one etcd. Entered, it holds connections."""

    def __init__(self, address: EtcdAddress) -> None:
        self._address = address
        self.at = 0
        """Which member is asked."""
        self.moved: Callable[[], None] = lambda: None
        """Called when a member was left because it does not answer; what hangs there should be begun anew."""
        self._looking = asyncio.Lock()
        self._context = _context(address)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the connection pool."""
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=self._context, socket_factory=guarded)
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def leave(self, at: int) -> None:
        """Ask another member than `at` from now on."""
        if self.at == at:
            self.at = (at + 1) % len(self._address.members)

    def _url(self, at: int, path: str) -> str:
        return self._address.url(self._address.members[at]) + path

    async def swap(
        self, key: str, value: bytes | None, revision: int, *, also: tuple[str, int] | None = None
    ) -> tuple[bool, int]:
        """Write `key` (None: delete it) if its current value was made by `revision` (0: there must be none).

        Args:
            also: another key, and the revision that must have made its value.

        Returns:
            Whether it was written, and etcd's revision then.

        Raises:
            Unavailable: nobody knows.
            Full: etcd has no room for it; deletes have room.
            CorralError: etcd refuses such a write.
        """
        name = _text(key)
        write: Mapping[str, Any] = (
            {"request_delete_range": {"key": name}}
            if value is None
            else {"request_put": {"key": name, "value": base64.b64encode(value).decode()}}
        )
        compares = [_made_by(at, by) for at, by in ((key, revision), *((also,) if also else ()))]
        answer = await self._call("/v3/kv/txn", {"compare": compares, "success": [write]}, again=False)
        return bool(answer.get("succeeded")), int(answer["header"]["revision"])

    async def everything(self, revision: int) -> tuple[list[KeyValue], int]:
        """All keys as of `revision` (0: now), and etcd's latest revision.

        Raises:
            EtcdCompacted: `revision` is gone.
            Unavailable: nobody answers.
        """
        found: list[KeyValue] = []
        start, latest = _EVERYTHING, 0
        while True:
            page = {"key": start, "range_end": _EVERYTHING, "limit": str(_PAGE), "revision": str(revision)}
            answer = await self._call("/v3/kv/range", page, again=True)
            latest = latest or int(answer["header"]["revision"])
            revision = revision or latest
            found += map(_read, answer.get("kvs") or ())
            if not answer.get("more"):
                return found, latest
            start = base64.b64encode(base64.b64decode(answer["kvs"][-1]["key"]) + b"\0").decode()

    async def latest(self) -> int:
        """etcd's latest revision, as a majority knows it."""
        answer = await self._call("/v3/kv/range", _LATEST, again=True)
        return int(answer["header"]["revision"])

    async def compact(self, revision: int) -> None:
        """Forget history below `revision`; it is fine if that is done already."""
        try:
            await self._call("/v3/kv/compaction", {"revision": str(revision)}, again=True)
        except EtcdCompacted:
            return

    @asynccontextmanager
    async def watch(self, start: int) -> AsyncIterator[AsyncIterator[Sequence[Event]]]:
        """Every write from revision `start` on, in batches that end between two revisions; an empty batch says that
        the watch stands. The iteration ends or fails when the member goes away.

        Raises:
            EtcdCompacted: `start` is gone; it has the compaction's revision.
            Unavailable: nobody answers.
        """
        assert self._session is not None
        request = {"create_request": {"key": _EVERYTHING, "range_end": _EVERYTHING, "start_revision": str(start)}}
        timeout, at = aiohttp.ClientTimeout(total=None, sock_connect=2.0), self.at
        try:
            async with self._session.post(
                self._url(at, "/v3/watch"), data=orjson.dumps(request), headers=_HAS_LEADER, timeout=timeout
            ) as response:
                yield _batches(response)
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"cannot watch etcd at {self._url(at, '')}: {error}") from error

    async def _call(self, path: str, body: Mapping[str, Any], *, again: bool) -> Mapping[str, Any]:
        """One call; `again` says that it may be made twice."""
        last: Exception | None = None
        for _ in self._address.members:
            at = self.at
            try:
                return _answer(orjson.loads(await self._ask(at, path, body)))
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError, Unavailable) as error:
                last = error
            self.leave(at)
            # What was not sent another member may get, whatever it is.
            if not again and not isinstance(last, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
                break
        raise Unavailable(
            f"cannot use {self._address}: {last or 'no answer'}", "see that a majority of etcd's members is up"
        ) from last

    async def _ask(self, at: int, path: str, body: Mapping[str, Any]) -> bytes:
        """What a member answers.

        Raises:
            Unavailable: it does not, and another one does.
            aiohttp.ClientError, OSError: it cannot be reached, or not in time.
        """
        asked = asyncio.ensure_future(self._post(at, path, body))
        try:
            while not (await asyncio.wait({asked}, timeout=_SUSPICIOUS_SECONDS))[0]:
                if await self._find_better(at):
                    raise Unavailable(f"the member at {self._url(at, '')} does not answer")
            return asked.result()
        finally:
            asked.cancel()

    async def _post(self, at: int, path: str, body: Mapping[str, Any]) -> bytes:
        assert self._session is not None
        async with self._session.post(self._url(at, path), data=orjson.dumps(body)) as response:
            return await response.read()

    async def _find_better(self, at: int) -> bool:
        """Whether a member other than `at` is asked from now on, because it answers at once."""
        async with self._looking:
            if self.at != at:
                return True
            for step in range(1, len(self._address.members)):
                other = (at + step) % len(self._address.members)
                try:
                    async with asyncio.timeout(_SUSPICIOUS_SECONDS):
                        _answer(orjson.loads(await self._post(other, "/v3/kv/range", _LATEST)))
                except (aiohttp.ClientError, OSError, ValueError, Unavailable):
                    continue
                self.at = other
                self.moved()
                return True
        return False


def _answer(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    error = answer.get("error")
    if not error:
        return answer
    text = str(answer.get("message") or error)
    if "compacted" in text:
        raise EtcdCompacted(0)
    if _TOO_LARGE in text:
        raise CorralError(
            "cannot write an object of this size: etcd refuses it", "raise etcd's --max-request-bytes (1.5 MiB)"
        )
    if _NO_SPACE in text:
        raise Full(
            "cannot write to etcd: its database has reached its quota",
            "free space with `etcdctl defrag` or raise --quota-backend-bytes, then `etcdctl alarm disarm`",
        )
    raise Unavailable(f"etcd says: {text}")


async def _batches(response: aiohttp.ClientResponse) -> AsyncIterator[Sequence[Event]]:
    buffer = b""
    async for chunk in response.content.iter_any():
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in filter(None, lines):
            answer = _decoded(line)
            result = answer.get("result")
            if result is None:
                raise Unavailable(f"etcd says: {answer.get('error')}")
            if result.get("canceled"):
                if int(result.get("compact_revision") or 0):
                    raise EtcdCompacted(int(result["compact_revision"]))
                raise Unavailable(f"etcd ended a watch: {result.get('cancel_reason') or 'it says no reason'}")
            yield [_event(event) for event in result.get("events") or ()]


def _decoded(line: bytes) -> Mapping[str, Any]:
    try:
        answer = orjson.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Unavailable(f"what answers is no etcd: {line[:60]!r}")
    return answer


def _event(event: Mapping[str, Any]) -> Event:
    return Event(event.get("type") == "DELETE", _read(event["kv"]))


def _read(kv: Mapping[str, Any]) -> KeyValue:
    return KeyValue(
        key=base64.b64decode(kv["key"]).decode(errors="surrogateescape"),
        value=base64.b64decode(kv.get("value") or ""),
        created=int(kv.get("create_revision") or 0),
        modified=int(kv["mod_revision"]),
    )


def _made_by(key: str, revision: int) -> Mapping[str, Any]:
    return {"key": _text(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def _text(key: str) -> str:
    return base64.b64encode(key.encode()).decode()


def _context(address: EtcdAddress) -> ssl.SSLContext | bool:
    if address.ca is None:
        return True
    try:
        context = ssl.create_default_context(cafile=address.ca)
        if address.cert is not None:
            context.load_cert_chain(address.cert, address.key)
    except (OSError, ssl.SSLError) as error:
        raise CorralError(f"cannot use the certificates of {address}: {error}", "check the files it names") from error
    return context
