"""The words that every room shares about objects."""

from typing import Any, NamedTuple, TypeAlias

Obj: TypeAlias = dict[str, Any]
"""One API object as JSON data. Rooms that read many fields convert it once to a msgspec view."""


class Resource(NamedTuple):
    """Which collection of the API an object lives in. A tuple, because every request looks its kind up by it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        """`v1` for the core group, else `group/version`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, of one object, or of its subresource.

        An empty `namespace` on a namespaced resource is the collection across all namespaces.
        """
        path = f"/apis/{self.group}/{self.version}/" if self.group else f"/api/{self.version}/"
        if self.namespaced and namespace:
            path += f"namespaces/{namespace}/"
        path += self.plural
        if name:
            path += f"/{name}"
        return f"{path}/{subresource}" if subresource else path


class Key(NamedTuple):
    """An object's place in its collection; `namespace` is empty for cluster-scoped objects.

    A tuple, because every cache hashes and compares keys with each event.
    """

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def key_of(obj: Obj) -> Key:
    """The key of an object."""
    metadata = obj["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])
