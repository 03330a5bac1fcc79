"""Performs what a server does about a machine: the remote command, and telling people.

Both are controllers of their own, so that a slow command or a slow mail server holds up nothing else. What they do is
asked for by a Repair's status, and what came of it is written there: a field each.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from corral.base.clock import rfc3339
from corral.base.errors import CorralError
from corral.client.api import MERGE_PATCH
from corral.client.informer import Informer
from corral.kinds.repairs import REPAIRS, Answer, AnswerState, Notice, Repair, Told, pending, read
from corral.kinds.resources import NODES, SECRETS
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Tools

SECRET = Key("kube-system", "repair-notifications")
"""Whom to tell: each key names somebody, each value is one or more addresses, one a line."""
_TRIES = 5
_PAUSES = (10.0, 60.0, 300.0, 900.0)
"""Seconds between the tries to tell somebody."""
_NOBODY_SECONDS = 60.0
"""How soon it is looked again whether there is somebody to tell."""
_MOST_PEOPLE = 25
_MOST_OUTPUT = 400


class Remote(Protocol):
    """A server's command about a machine that does not answer."""

    async def __call__(self, machine: str, address: str) -> str:
        """Run it; returns what it said.

        Raises:
            CorralError, OSError: it is not configured, or it failed.
        """


class Notifier(Protocol):
    """Sends a notice to one address."""

    async def __call__(self, address: str, notice: Notice, repair: Repair) -> None:
        """Send it.

        Raises:
            CorralError, OSError: it was not sent; the message must not contain the address.
        """


class RemoteRemedyController:
    """Runs the remote command for repairs that ask for it."""

    name = "repair-remote-controller"
    reads = (REPAIRS, NODES)
    writes = ("repairs.corral.dev/status",)

    _tools: Tools
    _repairs: Informer
    _nodes: Informer

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._repairs, self._nodes = map(tools.caches.get, self.reads)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """The repair."""
        return [key_of(obj)] if resource == REPAIRS else []

    async def reconcile(self, key: Key) -> Result:
        """Run the command once and write what it said."""
        repair = _read(self._repairs, key)
        index = pending(repair, "Server") if repair is not None else None
        if repair is None or index is None:
            return Done()
        before = repair.status.answer
        if before is not None and before.attempt == index:
            # A server that has ended began it. Switching a machine off twice is worse than not knowing.
            return Done()
        await self._answer(repair, Answer(index, "Running", self._stamp()))
        node = self._nodes.get(Key("", repair.machine)) or {}
        listed = (node.get("status") or {}).get("addresses") or ()
        address = next((one["address"] for one in listed if one.get("type") == "InternalIP"), "")
        timeout = repair.status.attempts[index].timeout_seconds
        try:
            async with asyncio.timeout(timeout):
                said, state = await self._remote(repair.machine, address), "Succeeded"
        except TimeoutError:
            said, state = f"the command did not end within {timeout} s and was ended", "Failed"
        except (CorralError, OSError) as error:
            said, state = str(error), "Failed"
        answered = msgspec.convert(state, AnswerState)
        await self._answer(repair, Answer(index, answered, self._stamp(), said[:_MOST_OUTPUT]))
        return Done()

    async def _answer(self, repair: Repair, answer: Answer) -> None:
        # What an earlier answer had and this one has not would stay in a merge.
        data = dict.fromkeys(("message", "bootID")) | msgspec.to_builtins(answer)
        patch = {"status": {"answer": data}}
        await self._tools.client.patch(REPAIRS, repair.name, patch, kind=MERGE_PATCH, subresource="status")

    def _stamp(self) -> str:
        return rfc3339(self._tools.clock.now())


@dataclass(frozen=True, slots=True)
class Due:
    """Somebody who is to be told of something; `before` is what came of earlier tries."""

    notice: Notice
    target: str
    before: Told | None = None


class RepairNotifier:
    """Tells people, each of each notice once; a try that fails is repeated a few times."""

    name = "repair-notifier"
    reads = (REPAIRS,)
    writes = ("repairs.corral.dev/status",)

    _tools: Tools
    _repairs: Informer

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._repairs = tools.caches.get(REPAIRS)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """The repair, if it has something to tell."""
        return [key_of(obj)] if (obj.get("status") or {}).get("notices") else []

    async def reconcile(self, key: Key) -> Result:
        """Tell whoever has not been told."""
        repair = _read(self._repairs, key)
        if repair is None or repair.deleting or not repair.status.notices:
            return Done()
        people = await self._people()
        if not people:
            return Requeue(_NOBODY_SECONDS)
        told = {(one.notice, one.target): one for one in repair.status.told}
        todo = due(repair.status.notices, sorted(people)[:_MOST_PEOPLE], told)
        if not todo:
            return Done()
        sent = await asyncio.gather(*(self._tell(repair, one, people[one.target]) for one in todo))
        made = {**told, **{(one.notice, one.target): one for one in sent}}
        patch = {"status": {"told": [msgspec.to_builtins(one) for one in made.values()]}}
        await self._tools.client.patch(REPAIRS, repair.name, patch, kind=MERGE_PATCH, subresource="status")
        left = [one for one in sent if one.outcome == "Failed" and one.tries < _TRIES]
        return Requeue(min(_PAUSES[one.tries - 1] for one in left)) if left else Done()

    async def _people(self) -> dict[str, list[str]]:
        """Addresses by the name of whom they are of."""
        try:
            secret = await self._tools.client.get(SECRETS, SECRET.name, SECRET.namespace)
        except StatusError as error:
            if error.code != 404:
                raise
            return {}
        return addresses_in(secret)

    async def _tell(self, repair: Repair, one: Due, addresses: Sequence[str]) -> Told:
        tries = 1 + (one.before.tries if one.before is not None else 0)
        try:
            for address in addresses:
                await self._notifier(address, one.notice, repair)
        except (CorralError, OSError) as error:
            return Told(one.notice.reason, one.target, self._stamp(), "Failed", tries, str(error)[:_MOST_OUTPUT])
        return Told(one.notice.reason, one.target, self._stamp(), "Sent", tries)

    def _stamp(self) -> str:
        return rfc3339(self._tools.clock.now())


def due(notices: Iterable[Notice], people: Sequence[str], told: dict[tuple[str, str], Told]) -> list[Due]:
    """Whom to tell of what now."""
    found = []
    for notice in notices:
        for target in people:
            before = told.get((notice.reason, target))
            if before is None or (before.outcome == "Failed" and before.tries < _TRIES):
                found.append(Due(notice, target, before))
    return found


def addresses_in(secret: Obj) -> dict[str, list[str]]:
    """Whom a Secret names, and their addresses; lines that are empty or begin with `#` do not count."""
    import base64
    import binascii

    found: dict[str, list[str]] = {}
    for target, value in (secret.get("data") or {}).items():
        try:
            text = base64.b64decode(value).decode()
        except (binascii.Error, UnicodeDecodeError):
            text = ""
        lines = [line.strip() for line in text.splitlines()]
        found[target] = [line for line in lines if line and not line.startswith("#")]
    return found


def _read(repairs: Informer, key: Key) -> Repair | None:
    obj = repairs.get(key)
    try:
        return read(obj) if obj is not None else None
    except msgspec.ValidationError:
        return None
