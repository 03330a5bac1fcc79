"""Having the image that a container needs: pull policies, credentials, one pull at a time for each image."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from corral.agent.runtime.api import Image, ImageAuth, Images, RuntimeFailure
from corral.base.clock import Clock
from corral.kinds.resources import SECRETS
from corral.kinds.types import Obj, Resource

HOST = "host"
_PARALLEL_PULLS = 4
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})

Tell = Callable[[str, str, str], None]
"""Record an event: type, reason, message."""
GetSecret = Callable[[Resource, str, str, str], Awaitable[Obj | None]]


class ImageKeeper:
    """Images for containers, with bounded concurrency across pods."""

    def __init__(self, images: Images, secrets: GetSecret, clock: Clock) -> None:
        self._images = images
        self._secrets = secrets
        self._clock = clock
        self._slots = asyncio.Semaphore(_PARALLEL_PULLS)
        self._locks: dict[str, asyncio.Lock] = {}

    async def ensure(self, pod: Obj, container: Obj, tell: Tell) -> Image:
        """The image of `container`, by its pull policy.

        Raises:
            RuntimeFailure: it is not here and cannot be pulled; `reason` is the waiting reason to show.
        """
        reference = container.get("image") or ""
        if not reference:
            raise RuntimeFailure("InvalidImageName", f"container {container['name']} names no image")
        policy = pull_policy(container)
        present = await self._images.status(reference) if policy != "Always" or reference == HOST else None
        if present is not None:
            tell("Normal", "Pulled", f'Container image "{reference}" already present on machine')
            return present
        if policy == "Never":
            message = f'Container image "{reference}" is not present with pull policy of Never'
            raise RuntimeFailure("ErrImageNeverPull", message)
        return await self._pull(pod, reference, policy, tell)

    async def _pull(self, pod: Obj, reference: str, policy: str, tell: Tell) -> Image:
        lock = self._locks.setdefault(reference, asyncio.Lock())
        asked = self._clock.monotonic()
        async with lock, self._slots:
            if policy != "Always":
                present = await self._images.status(reference)
                if present is not None:
                    tell("Normal", "Pulled", f'Container image "{reference}" already present on machine')
                    return present
            tell("Normal", "Pulling", f'Pulling image "{reference}"')
            began = self._clock.monotonic()
            image = await self._images.pull(reference, await self._auths(pod, reference))
        now = self._clock.monotonic()
        took, waited = _seconds(now - began), _seconds(now - asked)
        tell(
            "Normal",
            "Pulled",
            f'Successfully pulled image "{reference}" in {took} ({waited} including waiting). '
            f"Image size: {image.size} bytes.",
        )
        return image

    async def _auths(self, pod: Obj, reference: str) -> Sequence[ImageAuth]:
        found: list[ImageAuth] = []
        metadata = pod["metadata"]
        for entry in pod["spec"].get("imagePullSecrets") or ():
            name = entry.get("name") or ""
            secret = await self._secrets(SECRETS, metadata.get("namespace", ""), name, metadata["uid"])
            if secret is not None:
                found += auths_in(secret, registry_of(reference))
        return found


def pull_policy(container: Obj) -> str:
    """The container's policy; by default Always for `:latest` or no tag, else IfNotPresent."""
    policy = container.get("imagePullPolicy")
    if policy:
        return str(policy)
    reference = str(container.get("image") or "")
    last = reference.rpartition("/")[2]
    if "@" in last or (":" in last and not last.endswith(":latest")):
        return "IfNotPresent"
    return "Always"


def registry_of(reference: str) -> str:
    """The registry's host of an image reference; docker.io if none is named."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return "docker.io"


def auths_in(secret: Obj, registry: str) -> list[ImageAuth]:
    """Credentials for `registry` in a `dockerconfigjson` or `dockercfg` secret; none if it is malformed."""
    data = secret.get("data") or {}
    try:
        if ".dockerconfigjson" in data:
            auths = json.loads(base64.b64decode(data[".dockerconfigjson"])).get("auths") or {}
        else:
            auths = json.loads(base64.b64decode(data.get(".dockercfg", "e30=")))
        return [_auth(entry) for server, entry in auths.items() if _same(server, registry)]
    except (ValueError, AttributeError, TypeError):
        return []


def _auth(entry: Mapping[str, Any]) -> ImageAuth:
    if entry.get("auth"):
        user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        return ImageAuth(user, password)
    return ImageAuth(str(entry.get("username") or ""), str(entry.get("password") or ""))


def _same(server: str, registry: str) -> bool:
    host = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return host == registry or (host in _DOCKER_HUB and registry in _DOCKER_HUB)


def _seconds(duration: float) -> str:
    return f"{duration:.3f}s" if duration >= 1 else f"{duration * 1000:.0f}ms"
