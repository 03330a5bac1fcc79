"""Names of images, normalised as docker does: `nginx` is `docker.io/library/nginx:latest`. Pure.

Grammar: github.com/distribution/reference.
"""

import re
from dataclasses import dataclass

from corral.agent.runtime.api import RuntimeFailure

DEFAULT_REGISTRY = "docker.io"
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REGISTRY = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9]+(?:[.-]+[A-Za-z0-9]+)*)(?::[0-9]+)?")
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """An image in a registry. With a digest, the tag says nothing more."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        name = f"{self.registry}/{self.repository}"
        return f"{name}@{self.digest}" if self.digest else f"{name}:{self.tag}"

    @property
    def loopback(self) -> bool:
        """Whether the registry is on this machine, where plain HTTP is as good as TLS."""
        host = self.registry if self.registry.startswith("[") else self.registry.partition(":")[0]
        return host == "localhost" or host.startswith(("127.", "[::1]"))


def is_id(text: str) -> bool:
    """Whether `text` is an image id rather than a name."""
    return _ID.fullmatch(text) is not None


def parse(text: str) -> Reference:
    """The image that `text` names.

    Raises:
        RuntimeFailure: `InvalidImageName`.
    """
    rest, _, digest = text.partition("@")
    first, slash, path = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        registry, rest = first, path
    else:
        registry = DEFAULT_REGISTRY
    repository, colon, tag = rest.rpartition(":")
    if not colon:
        repository, tag = rest, ""
    if registry in ("index.docker.io", DEFAULT_REGISTRY):
        registry = DEFAULT_REGISTRY
        repository = repository if "/" in repository else f"library/{repository}"
    valid = (
        _REGISTRY.fullmatch(registry)
        and all(_COMPONENT.fullmatch(component) for component in repository.split("/"))
        and (_TAG.fullmatch(tag) if colon else True)
        and (_DIGEST.fullmatch(digest) if "@" in text else True)
        and len(repository) <= 255
    )
    if not valid:
        raise RuntimeFailure("InvalidImageName", f'couldn\'t parse image name "{text}": invalid reference format')
    return Reference(registry, repository, "" if digest else tag or "latest", digest)
