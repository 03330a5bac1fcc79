"""The agent's part in repairs: it performs the remedies that Repairs of its machine ask for, one at a time.

What is asked for is the last attempt of a Repair; what came of it goes into `status.answer`, which is all that an agent
may write there. A remedy that ends the agent itself (a restart, a reboot) is answered by the agent that comes after it:
an attempt that is said to be running when nobody runs it is one that succeeded in that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from corral.agent.runtime import spawn
from corral.base.clock import Clock, rfc3339
from corral.base.errors import CorralError
from corral.client.api import MERGE_PATCH
from corral.client.client import Client
from corral.client.informer import Event, Informer
from corral.kinds.repairs import REPAIRS, Answer, AnswerState, Remedy, Repair, pending, read
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

logger = logging.getLogger(__name__)

Perform = Callable[[], Awaitable[str]]
"""Does a remedy; returns what to say of it. Raises CorralError or OSError when it could not."""
_RETRY_SECONDS: Final = 2.0
_MOST_WORDS: Final = 400


class RepairHand:
    """See the module.

    Args:
        remedies: what this agent can do; everything else is answered with a failure.
        boot_id: of the machine as it runs now.
    """

    def __init__(
        self, client: Client, machine: str, clock: Clock, remedies: Mapping[Remedy, Perform], boot_id: str
    ) -> None:
        self._client = client
        self._clock = clock
        self._remedies = remedies
        self._boot_id = boot_id
        self._mine: set[tuple[str, int]] = set()
        """Attempts that this very agent has begun."""
        self._repairs = Informer(client, REPAIRS, field_selector=f"spec.nodeName={machine}", clock=clock)
        self._news = asyncio.Event()
        self._repairs.on_event(self._note)

    def _note(self, _: Event) -> None:
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repairs.run(), name="repairs of this machine")
            while True:
                await self._news.wait()
                self._news.clear()
                for obj in list(self._repairs.items()):
                    await self._look(obj)

    async def _look(self, obj: Obj) -> None:
        try:
            repair = read(obj)
        except msgspec.ValidationError as error:
            logger.warning("cannot understand repair %s: %s", obj["metadata"]["name"], error)
            return
        index = pending(repair, "Agent")
        if index is None or (repair.name, index) in self._mine:
            return
        try:
            await self._perform(repair, index)
        except (StatusError, OSError) as error:
            logger.warning("cannot answer repair %s, will retry: %s", repair.name, error)
            self._mine.discard((repair.name, index))
            await self._clock.sleep(_RETRY_SECONDS)
            self._news.set()

    async def _perform(self, repair: Repair, index: int) -> None:
        attempt, answer = repair.status.attempts[index], repair.status.answer
        interrupted = answer is not None and answer.attempt == index and answer.state == "Running"
        if interrupted and answer is not None and attempt.remedy in ("RestartAgent", "Reboot"):
            await self._answer(repair, index, *self._returned(attempt.remedy, answer))
            return
        logger.warning("repair %s: %s", repair.name, attempt.remedy)
        await self._answer(repair, index, "Running", "")
        self._mine.add((repair.name, index))
        try:
            async with asyncio.timeout(attempt.timeout_seconds or None):
                said, state = await self._do(attempt.remedy), "Succeeded"
        except TimeoutError:
            said, state = f"not done within {attempt.timeout_seconds} s", "Failed"
        except (CorralError, OSError) as error:
            said, state = " ".join(str(error).split()), "Failed"
        logger.warning("repair %s: %s %s: %s", repair.name, attempt.remedy, state, said)
        await self._answer(repair, index, msgspec.convert(state, AnswerState), said)

    async def _do(self, remedy: Remedy) -> str:
        perform = self._remedies.get(remedy)
        if perform is None:
            raise CorralError(f"this agent does not know {remedy}")
        return await perform()

    def _returned(self, remedy: Remedy, answer: Answer) -> tuple[AnswerState, str]:
        """What to say of an attempt that ended the agent before this one."""
        if remedy == "RestartAgent":
            return "Succeeded", "the agent is back"
        if answer.boot_id == self._boot_id:
            return "Failed", "the agent is back, but the machine was not rebooted"
        return "Succeeded", f"the machine is back, boot {self._boot_id}"

    async def _answer(self, repair: Repair, index: int, state: AnswerState, message: str) -> None:
        said = Answer(index, state, rfc3339(self._clock.now()), message[:_MOST_WORDS], self._boot_id)
        # What an earlier answer had and this one has not would stay in a merge.
        data = dict.fromkeys(("message", "bootID")) | msgspec.to_builtins(said)
        patch = {"status": {"answer": data}}
        await self._client.patch(REPAIRS, repair.name, patch, kind=MERGE_PATCH, subresource="status")


async def reboot(command: Sequence[str]) -> str:
    """Reboot the machine by a command of its owner's; returns only when it is refused or cancelled.

    Raises:
        CorralError, OSError: there is none, or it failed.
    """
    if not command:
        raise CorralError("no reboot command is configured on this machine (`reboot` in DATA_DIR/repair.yaml)")
    done = await spawn.run(command)
    if done.code:
        raise CorralError(f"{command[0]} ended with {done.code}: {done.words}")
    # It goes down in a moment; if it does not, the attempt runs out of time.
    return await asyncio.Future()
