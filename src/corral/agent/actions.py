"""What probes and lifecycle hooks do to a container: exec, httpGet, tcpSocket, grpc, sleep.

An action succeeds, or fails with words for people; the words are the kubelet's.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp

from corral.agent import grpc_health
from corral.agent.runtime.api import Runtime, RuntimeFailure
from corral.base.clock import Clock
from corral.kinds.types import Obj
from corral.wire.sockets import guarded

_OUTPUT_BYTES = 10 * 1024
"""How much of an exec's or a response's output is kept (the kubelet's limit)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether an action succeeded; if not, why. `broken`: it could not even be tried."""

    ok: bool
    message: str = ""
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """The container that an action is for."""

    container_id: str
    container: Obj
    address: str
    """The pod's IP address."""


class Actions:
    """Performs actions. `close()` gives back the HTTP session."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def perform(self, handler: Obj, target: Target, timeout: float, *, agent: str = "kube-probe/1.36") -> Outcome:
        """Do what `handler` (a probe, or a lifecycle handler) says, within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await self._perform(handler, target, agent)
        except TimeoutError:
            return Outcome(False, f"command timed out or no answer within {timeout:g}s")
        except RuntimeFailure as error:
            return Outcome(False, error.message, broken=True)
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return Outcome(False, _words(error))

    async def _perform(self, handler: Obj, target: Target, agent: str) -> Outcome:
        if handler.get("exec"):
            return await self._exec(handler["exec"].get("command") or (), target)
        if handler.get("httpGet"):
            return await self._http(handler["httpGet"], target, agent)
        if handler.get("tcpSocket"):
            spec = handler["tcpSocket"]
            host = spec.get("host") or target.address
            return await _connect(host, port_number(spec.get("port"), target.container))
        if handler.get("grpc"):
            spec = handler["grpc"]
            serving, said = await grpc_health.check(target.address, int(spec["port"]), spec.get("service") or "")
            return Outcome(serving, said)
        if handler.get("sleep"):
            await self._clock.sleep(float(handler["sleep"].get("seconds") or 0))
            return Outcome(True)
        return Outcome(False, "the handler names no action", broken=True)

    async def _exec(self, command: list[str] | tuple[str, ...], target: Target) -> Outcome:
        process = await self._runtime.exec(target.container_id, command)
        try:
            out, err = await asyncio.gather(_head(process.stdout()), _head(process.stderr()))
            code = await process.wait()
        finally:
            await process.close()
        return Outcome(code == 0, (out + err).decode(errors="replace").strip())

    async def _http(self, spec: Obj, target: Target, agent: str) -> Outcome:
        scheme = (spec.get("scheme") or "HTTP").lower()
        host = spec.get("host") or target.address
        shown = f"[{host}]" if ":" in host else host
        path = spec.get("path") or "/"
        url = f"{scheme}://{shown}:{port_number(spec.get('port'), target.container)}/{path.removeprefix('/')}"
        headers = {"User-Agent": agent, "Accept": "*/*", **_headers(spec)}
        try:
            async with self._http_session().get(url, headers=headers) as response:
                await response.content.read(_OUTPUT_BYTES)
                if 200 <= response.status < 400:
                    return Outcome(True)
                return Outcome(False, f"HTTP probe failed with statuscode: {response.status}")
        except (OSError, aiohttp.ClientError) as error:
            return Outcome(False, f'Get "{url}": {_words(error)}')

    def _http_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Probes ask whether somebody serves, not who: certificates are not verified, as with the kubelet.
            unverified = ssl.create_default_context()
            unverified.check_hostname = False
            unverified.verify_mode = ssl.CERT_NONE
            connector = aiohttp.TCPConnector(ssl=unverified, force_close=True, socket_factory=guarded)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self._session


def _words(error: Exception) -> str:
    """Why, without what the event loop and its libraries add."""
    code = error.errno if isinstance(error, OSError) else None
    return os.strerror(code).lower() if code and code > 0 else str(error) or type(error).__name__


def _headers(spec: Obj) -> Mapping[str, str]:
    return {header["name"]: header.get("value") or "" for header in spec.get("httpHeaders") or ()}


async def _connect(host: str, port: int) -> Outcome:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return Outcome(False, f"dial tcp {host}:{port}: {_words(error)}")
    writer.close()
    return Outcome(True)


async def _head(stream: AsyncIterator[bytes]) -> bytes:
    """The first bytes of a stream, which is read to its end."""
    kept = b""
    async for chunk in stream:
        kept = (kept + chunk)[:_OUTPUT_BYTES]
    return kept


def port_number(port: object, container: Obj) -> int:
    """A port given by number or by the name of one of the container's ports.

    Raises:
        ValueError: there is no such name.
    """
    if isinstance(port, int):
        return port
    text = str(port)
    if text.isdigit():
        return int(text)
    for known in container.get("ports") or ():
        if known.get("name") == text:
            return int(known["containerPort"])
    raise ValueError(f"couldn't find port: {text} of container {container.get('name')}")
