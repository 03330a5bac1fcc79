"""Emptying a machine: which of its pods must go, and asking them to. The choice is pure."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from corral.base.errors import CorralError
from corral.client.client import Client
from corral.kinds.owners import controller_of
from corral.kinds.podspec import is_terminal
from corral.kinds.resources import PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, key_of

_MIRROR = "kubernetes.io/config.mirror"
_RETRY_SECONDS = 5.0
"""How long kubectl waits before it asks again for what a budget refuses."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Pods of a machine, by what a drain does with them."""

    leave: tuple[Obj, ...]
    stay: tuple[Obj, ...]
    """Daemons, which belong to the machine."""
    refused: tuple[str, ...]
    """Why some must not be made to leave just like that, a sentence each."""


def choose(pods: Sequence[Obj], *, force: bool, delete_local: bool) -> Choice:
    """Sort a machine's pods.

    Args:
        force: also pods that nothing would start again elsewhere.
        delete_local: also pods whose `emptyDir` volumes are lost when they leave.
    """
    leave: list[Obj] = []
    stay: list[Obj] = []
    refused: list[str] = []
    for pod in pods:
        owner = controller_of(pod)
        if _MIRROR in (pod["metadata"].get("annotations") or {}) or (owner or {}).get("kind") == "DaemonSet":
            stay.append(pod)
            continue
        if not is_terminal(pod):
            if owner is None and not force:
                refused.append(f"{key_of(pod)} would not start anywhere else, because nothing manages it (--force)")
            if _has_local_data(pod) and not delete_local:
                refused.append(f"{key_of(pod)} would lose its emptyDir volumes (--delete-emptydir-data)")
        leave.append(pod)
    return Choice(tuple(leave), tuple(stay), tuple(refused))


def _has_local_data(pod: Obj) -> bool:
    return any("emptyDir" in volume for volume in pod["spec"].get("volumes") or ())


class Drain:
    """Evicts pods and waits until they are gone.

    Args:
        say: told of each pod that leaves and of each that must wait.
        grace: seconds that programs get to end, instead of what their pods say.
        pause: waits before a refused eviction is tried again.
    """

    def __init__(
        self,
        client: Client,
        say: Callable[[str], None],
        *,
        grace: int | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._say = say
        self._grace = grace
        self._pause = pause

    async def run(self, pods: Sequence[Obj], timeout: float | None) -> None:
        """Return when all `pods` are gone.

        Raises:
            CorralError: some are still there after `timeout` seconds; they are named.
        """
        left = {key_of(pod): pod for pod in pods}

        async def leave(pod: Obj) -> None:
            await self._evict(pod)
            await self._gone(pod)
            del left[key_of(pod)]
            self._say(f"{key_of(pod)} has left")

        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(*map(leave, pods))
        except TimeoutError as error:
            names = ", ".join(map(str, list(left)[:5]))
            raise CorralError(
                f"cannot empty the machine in {timeout:g} s: {len(left)} of its pods are still there: {names}",
                "see their disruption budgets (kubectl get pdb -A), or give them more time with --timeout",
            ) from error

    async def _evict(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        options = {"preconditions": {"uid": metadata["uid"]}}
        body: Obj = {
            "kind": "Eviction",
            "apiVersion": "policy/v1",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": options if self._grace is None else {**options, "gracePeriodSeconds": self._grace},
        }
        told = False
        while True:
            try:
                await self._client.create_subresource(PODS, name, namespace, "eviction", body)
                return
            except StatusError as error:
                if error.code in (404, 409):
                    return
                if error.code != 429:
                    raise
                if not told:
                    self._say(f"{key_of(pod)} waits: {error.message}")
                told = True
            await self._pause(_RETRY_SECONDS)

    async def _gone(self, pod: Obj) -> None:
        """Return when this very pod is gone."""
        metadata = pod["metadata"]
        selector = f"metadata.name={metadata['name']}"
        while True:
            listing = await self._client.list(PODS, metadata["namespace"], field_selector=selector)
            if all(found["metadata"]["uid"] != metadata["uid"] for found in listing["items"]):
                return
            version = listing["metadata"]["resourceVersion"]
            async with self._client.watch(
                PODS, metadata["namespace"], resource_version=version, field_selector=selector
            ) as events:
                async for event in events:
                    if event.type in ("DELETED", "ERROR"):
                        break
