"""ConfigMaps, Secrets and tokens that pods on this machine use.

An object is fetched when it is first needed and then watched, one watch an object (agents may not list what their pods
do not use), as long as a pod uses it and a minute longer, so that the next pod of a namespace finds it here.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from corral.agent.volumes.api import Token
from corral.base.clock import Clock, parse_rfc3339
from corral.client.client import Client
from corral.client.informer import Informer
from corral.kinds.resources import SERVICE_ACCOUNTS
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource

logger = logging.getLogger(__name__)

_LINGER_SECONDS = 60.0
_WATCH_DELAY_SECONDS = 0.5
"""A watch begins a moment after the first fetch, off the path of a pod that starts; at once for what is missing."""


@dataclass(slots=True)
class _Watched:
    """One object and the pods that use it."""

    value: Obj | None
    users: set[str] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


class ObjectCache:
    """Objects by resource and key. `changed(pod_uid)` is called when an object that the pod uses has changed."""

    def __init__(self, client: Client, clock: Clock, changed: Callable[[str], None]) -> None:
        self._client = client
        self._clock = clock
        self._changed = changed
        self._watched: dict[tuple[Resource, Key], _Watched] = {}

    async def get(self, resource: Resource, namespace: str, name: str, pod_uid: str) -> Obj | None:
        """The object, or None if there is none.

        Raises:
            StatusError, OSError: the API server refuses or cannot be reached, and the object was never seen.
        """
        place = (resource, Key(namespace, name))
        watched = self._watched.get(place)
        if watched is None or watched.value is None:
            # What was not there is looked for again each time: whoever asks is waiting for it.
            value = await self._client.find(resource, name, namespace)
            watched = self._watched.setdefault(place, _Watched(value))
            watched.value = watched.value if value is None else value
        watched.users.add(pod_uid)
        if watched.task is None:
            watched.task = asyncio.create_task(self._watch(place, watched), name=f"watch {resource.plural} {place[1]}")
        return watched.value

    def release(self, pod_uid: str) -> None:
        """The pod uses nothing any more."""
        for watched in self._watched.values():
            watched.users.discard(pod_uid)

    async def close(self) -> None:
        """End all watches."""
        tasks = [watched.task for watched in self._watched.values() if watched.task is not None]
        self._watched.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, place: tuple[Resource, Key], watched: _Watched) -> None:
        """Follow the object until nobody has used it for a while."""
        resource, key = place
        if watched.value is not None:
            await self._clock.sleep(_WATCH_DELAY_SECONDS)
        informer = Informer(
            self._client,
            resource,
            namespace=key.namespace,
            field_selector=f"metadata.name={key.name}",
            clock=self._clock,
        )
        informer.on_event(lambda event: self._note(watched, event.new))
        running = asyncio.create_task(informer.run(), name=f"informer of {resource.plural} {key}")
        try:
            while True:
                await self._clock.sleep(_LINGER_SECONDS)
                if not watched.users:
                    self._watched.pop(place, None)
                    return
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _note(self, watched: _Watched, new: Obj | None) -> None:
        if _version(new) == _version(watched.value):
            return
        watched.value = new
        for pod_uid in list(watched.users):
            self._changed(pod_uid)


def _version(obj: Obj | None) -> str:
    return "" if obj is None else str(obj["metadata"].get("resourceVersion", ""))


class TokenCache:
    """Tokens of pods, fetched by TokenRequest and refreshed at 80 % of their life. Kept in memory only."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._tokens: dict[tuple[str, str, int], Token] = {}

    async def token(self, pod: Obj, audience: str, seconds: int) -> Token:
        """A token of the pod's service account, bound to the pod.

        Raises:
            StatusError, OSError: none could be had, and there is no older one that is still good.
        """
        key = (pod["metadata"]["uid"], audience, seconds)
        held = self._tokens.get(key)
        now = self._clock.now()
        if held is not None and now < held.refresh_at:
            return held
        try:
            fresh = await self._request(pod, audience, seconds, now)
        except (StatusError, OSError) as error:
            if held is None or now >= held.expires:
                raise
            logger.warning("cannot refresh a token of %s, will retry: %s", pod["metadata"]["name"], error)
            return held
        self._tokens[key] = fresh
        return fresh

    def refresh_at(self, pod_uid: str) -> datetime | None:
        """When the first of the pod's tokens is to be refreshed."""
        return min((token.refresh_at for (uid, _, _), token in self._tokens.items() if uid == pod_uid), default=None)

    def release(self, pod_uid: str) -> None:
        """Forget the pod's tokens."""
        for key in [key for key in self._tokens if key[0] == pod_uid]:
            del self._tokens[key]

    async def _request(self, pod: Obj, audience: str, seconds: int, now: datetime) -> Token:
        metadata = pod["metadata"]
        reference = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
        body: Obj = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {},
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": reference,
            },
        }
        account = pod["spec"].get("serviceAccountName") or "default"
        answer = await self._client.create_subresource(
            SERVICE_ACCOUNTS, account, metadata.get("namespace", ""), "token", body
        )
        status = answer["status"]
        return Token(status["token"], now, parse_rfc3339(status["expirationTimestamp"]))
