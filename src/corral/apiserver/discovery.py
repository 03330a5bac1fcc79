"""What the server serves: group and resource documents, and the aggregated form that newer clients ask for."""

import hashlib
from collections.abc import Sequence

import msgspec
import orjson

from corral.apiserver.context import JSON, Call, Reply
from corral.apiserver.negotiation import accepted
from corral.apiserver.subresources.table import OTHER_KINDS, VERBS
from corral.kinds.kind import Kind
from corral.kinds.registry import Registry
from corral.kinds.status import path_not_found
from corral.kinds.types import Obj

_AGGREGATED = "APIGroupDiscoveryList"
_AGGREGATED_GROUP = "apidiscovery.k8s.io"


class Extension(msgspec.Struct, frozen=True):
    """A resource (or subresource) of `corral.dev/v1` that a handler serves instead of the store."""

    plural: str
    subresource: str
    namespaced: bool
    verbs: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.plural}/{self.subresource}" if self.subresource else self.plural

    @property
    def singular(self) -> str:
        plural = self.plural
        return f"{plural.removesuffix('ies')}y" if plural.endswith("ies") else plural.removesuffix("s")


class Discovery:
    """Discovery documents, rendered once until the registry changes."""

    def __init__(self, registry: Registry, extension_group: str, extension_version: str) -> None:
        self._registry = registry
        self._group = extension_group
        self._version = extension_version
        self._extensions: list[Extension] = []
        self._cache: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._generation = registry.generation

    def extend(self, extension: Extension) -> None:
        """Show one more resource."""
        self._extensions.append(extension)
        self._cache.clear()

    def groups(self) -> dict[str, list[str]]:
        """Groups and their versions, preferred first."""
        found = {group: list(versions) for group, versions in self._registry.groups().items()}
        if self._extensions:
            versions = found.setdefault(self._group, [])
            if self._version not in versions:
                versions.append(self._version)
        return found

    def reply(self, call: Call) -> Reply:
        """The document at `call.path`, which starts with `/api` or `/apis`.

        Raises:
            StatusError: 404.
        """
        if self._generation != self._registry.generation:
            self._cache.clear()
            self._generation = self._registry.generation
        path = call.path.rstrip("/")
        version = self._aggregated_version(call.accept) if path in ("/api", "/apis") else ""
        found = self._cache.get((path, version))
        if found is None:
            document = self._aggregated(path, version) if version else self._document(path.split("/")[1:])
            body = orjson.dumps(document)
            found = self._cache[path, version] = (body, f'"{hashlib.sha256(body).hexdigest().upper()}"')
        body, etag = found
        content_type = f"{JSON};g={_AGGREGATED_GROUP};v={version};as={_AGGREGATED}" if version else JSON
        headers = (("ETag", etag), ("Vary", "Accept"))
        if call.if_none_match == etag:
            return Reply(304, b"", content_type, headers)
        return Reply(200, body, content_type, headers)

    def _aggregated_version(self, accept: str) -> str:
        for form in accepted(accept):
            if form.convert == _AGGREGATED and form.group == _AGGREGATED_GROUP and form.version in ("v2", "v2beta1"):
                return form.version
            if not form.convert:
                return ""
        return ""

    def _document(self, parts: Sequence[str]) -> Obj:
        groups = self.groups()
        match parts:
            case ["api"]:
                addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]
                versions = groups.get("", [])
                return {"kind": "APIVersions", "versions": versions, "serverAddressByClientCIDRs": addresses}
            case ["apis"]:
                named = [_group(name, versions) for name, versions in groups.items() if name]
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": named}
            case ["apis", group] if group in groups and group:
                return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, groups[group])}
            case ["api", version] if version in groups.get("", ()):
                return self._resources("", version)
            case ["apis", group, version] if group and version in groups.get(group, ()):
                return self._resources(group, version)
        raise path_not_found()

    def _kinds(self, group: str, version: str) -> list[Kind]:
        found = (kind for kind in self._registry.kinds() if kind.resource.group == group)
        return sorted(
            (kind for kind in found if kind.resource.version == version), key=lambda kind: kind.resource.plural
        )

    def _shown_extensions(self, group: str, version: str) -> list[Extension]:
        return self._extensions if (group, version) == (self._group, self._version) else []

    def _resources(self, group: str, version: str) -> Obj:
        resources = [entry for kind in self._kinds(group, version) for entry in _api_resources(kind)]
        resources += [
            {
                "name": extension.name,
                "singularName": "",
                "namespaced": extension.namespaced,
                "kind": extension.singular.capitalize(),
                "verbs": list(extension.verbs),
            }
            for extension in self._shown_extensions(group, version)
        ]
        group_version = f"{group}/{version}" if group else version
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}

    def _aggregated(self, path: str, version: str) -> Obj:
        items = [
            {
                "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
                "versions": [self._aggregated_group_version(group, served) for served in versions],
            }
            for group, versions in self.groups().items()
            if bool(group) == (path == "/apis")
        ]
        return {
            "kind": _AGGREGATED,
            "apiVersion": f"{_AGGREGATED_GROUP}/{version}",
            "metadata": {},
            "items": items,
        }

    def _aggregated_group_version(self, group: str, version: str) -> Obj:
        resources = [_aggregated_resource(kind) for kind in self._kinds(group, version)]
        for extension in self._shown_extensions(group, version):
            if not extension.subresource:
                resources.append(_aggregated_extension(extension, self._extensions, self._group, self._version))
        return {"version": version, "resources": resources, "freshness": "Current"}


def _group(name: str, versions: Sequence[str]) -> Obj:
    shown = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": shown, "preferredVersion": shown[0]}


def _api_resources(kind: Kind) -> list[Obj]:
    resource = kind.resource
    entry: Obj = {
        "name": resource.plural,
        "singularName": kind.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": sorted(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    entries = [entry]
    for subresource in sorted(kind.subresources & VERBS.keys()):
        group, version, name = OTHER_KINDS.get(subresource, (resource.group, resource.version, resource.kind))
        entries.append(
            {
                "name": f"{resource.plural}/{subresource}",
                "singularName": "",
                "namespaced": resource.namespaced,
                **(
                    {"group": group, "version": version}
                    if (group, version) != (resource.group, resource.version)
                    else {}
                ),
                "kind": name,
                "verbs": list(VERBS[subresource]),
            }
        )
    return entries


def _aggregated_resource(kind: Kind) -> Obj:
    resource = kind.resource
    entry: Obj = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": sorted(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    subresources = []
    for subresource in sorted(kind.subresources & VERBS.keys()):
        group, version, name = OTHER_KINDS.get(subresource, (resource.group, resource.version, resource.kind))
        response = {"group": group, "version": version, "kind": name}
        subresources.append({"subresource": subresource, "responseKind": response, "verbs": list(VERBS[subresource])})
    if subresources:
        entry["subresources"] = subresources
    return entry


def _aggregated_extension(extension: Extension, all_of: Sequence[Extension], group: str, version: str) -> Obj:
    response = {"group": group, "version": version, "kind": extension.singular.capitalize()}
    subresources = [
        {"subresource": other.subresource, "responseKind": response, "verbs": list(other.verbs)}
        for other in all_of
        if other.plural == extension.plural and other.subresource
    ]
    return {
        "resource": extension.plural,
        "responseKind": response,
        "scope": "Namespaced" if extension.namespaced else "Cluster",
        "singularResource": extension.singular,
        "verbs": list(extension.verbs),
        **({"subresources": subresources} if subresources else {}),
    }
