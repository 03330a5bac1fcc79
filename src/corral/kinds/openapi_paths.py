"""The `paths` of an OpenAPI document: one item for each URL of a kind, with the operations its verbs allow."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from corral.kinds.builtin.definitions import long_name
from corral.kinds.kind import Kind
from corral.kinds.types import Obj

_QUERY: Final[Mapping[str, tuple[str, str]]] = {
    "allowWatchBookmarks": ("boolean", "Ask for bookmarks between the events of a watch."),
    "continue": ("string", "The token that the page before gave."),
    "dryRun": ("string", "`All` goes through every step and stores nothing."),
    "fieldManager": ("string", "Who the fields of this request belong to."),
    "fieldSelector": ("string", "Only objects whose fields match."),
    "fieldValidation": ("string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
    "force": ("boolean", "Take over fields that others own (apply only)."),
    "gracePeriodSeconds": ("integer", "Seconds until the object is gone; 0 is at once."),
    "labelSelector": ("string", "Only objects whose labels match."),
    "limit": ("integer", "How many objects a page has at most."),
    "orphanDependents": ("boolean", "Deprecated: use propagationPolicy."),
    "pretty": ("string", "`true` asks for indented output."),
    "propagationPolicy": ("string", "Orphan, Background or Foreground."),
    "resourceVersion": ("string", "The version to read at, or to watch from."),
    "resourceVersionMatch": ("string", "How resourceVersion is meant: Exact or NotOlderThan."),
    "sendInitialEvents": ("boolean", "Start a watch with what is there."),
    "timeoutSeconds": ("integer", "Seconds until the call ends."),
    "watch": ("boolean", "Follow changes instead of listing."),
}
_LIST: Final = (
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
)
_WRITE: Final = ("dryRun", "fieldManager", "fieldValidation")
_DELETE: Final = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")
_PATCHES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
# A CRD's schema does not say how lists merge, so the server refuses strategic merge patches of custom resources.
_CUSTOM_PATCHES: Final = tuple(media for media in _PATCHES if "strategic" not in media)
_OTHER_KINDS: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "binding": ("", "v1", "Binding", "core.v1.Binding"),
    "eviction": ("policy", "v1", "Eviction", "policy.v1.Eviction"),
    "scale": ("autoscaling", "v1", "Scale", "autoscaling.v1.Scale"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest", "authentication.v1.TokenRequest"),
}
_POSTED: Final = ("binding", "eviction", "token")
_CONNECTED: Final = ("attach", "exec", "log", "portforward", "proxy")


def paths_of(kind: Kind, model: str, *, v3: bool) -> Obj:
    """URL -> path item."""
    return dict(_Paths(kind, model, v3).items())


class _Paths:
    """Writes the path items of one kind in one dialect."""

    def __init__(self, kind: Kind, model: str, v3: bool) -> None:
        self.kind = kind
        self.model = model
        self.base = "#/components/schemas/" if v3 else "#/definitions/"
        self.v3 = v3

    def items(self) -> Iterator[tuple[str, Obj]]:
        resource = self.kind.resource
        place = ("namespace",) if resource.namespaced else ()
        collection = resource.path("{namespace}" if resource.namespaced else "")
        yield collection, self._item(place, self._collection())
        one = f"{collection}/{{name}}"
        operations = self._one()
        if operations:
            yield one, self._item((*place, "name"), operations)
        if resource.namespaced and "list" in self.kind.verbs:
            yield resource.path(), self._item((), {"get": self._operation("list", self._many(), _LIST, scope="All")})
        for name in sorted(self.kind.subresources):
            yield f"{one}/{name}", self._item((*place, "name"), self._subresource(name))

    def _many(self) -> str:
        return f"{self.model}List"

    def _collection(self) -> Obj:
        found: Obj = {}
        if "list" in self.kind.verbs:
            found["get"] = self._operation("list", self._many(), _LIST)
        if "create" in self.kind.verbs:
            found["post"] = self._operation("post", self.model, _WRITE, body=self.model)
        if "deletecollection" in self.kind.verbs:
            status = long_name("meta.v1.Status")
            found["delete"] = self._operation("deletecollection", status, (*_LIST, *_DELETE))
        return found

    def _one(self) -> Obj:
        found: Obj = {}
        if "get" in self.kind.verbs:
            found["get"] = self._operation("get", self.model, ())
        if "update" in self.kind.verbs:
            found["put"] = self._operation("put", self.model, _WRITE, body=self.model)
        if "delete" in self.kind.verbs:
            options = long_name("meta.v1.DeleteOptions")
            found["delete"] = self._operation("delete", long_name("meta.v1.Status"), _DELETE, body=options)
        if "patch" in self.kind.verbs:
            found["patch"] = self._patch(self.model)
        return found

    def _patch(self, model: str, gvk: tuple[str, str, str] | None = None, name: str = "") -> Obj:
        body = long_name("meta.v1.Patch")
        return self._operation("patch", model, (*_WRITE, "force"), body=body, gvk=gvk, name=name)

    def _subresource(self, name: str) -> Obj:
        if name in _CONNECTED:
            verbs = ("get",) if name == "log" else ("get", "post")
            action = "get" if name == "log" else "connect"
            return {verb: self._operation(action, "", (), name=name, method=verb) for verb in verbs}
        group, version, kind, definition = _OTHER_KINDS.get(name, ("", "", "", ""))
        gvk = (group, version, kind) if kind else None
        model = long_name(definition) if kind else self.model
        if name in _POSTED:
            return {"post": self._operation("post", model, _WRITE, body=model, gvk=gvk, name=name)}
        if name == "finalize":
            return {"put": self._operation("put", model, _WRITE, body=model, name=name)}
        return {
            "get": self._operation("get", model, (), gvk=gvk, name=name),
            "put": self._operation("put", model, _WRITE, body=model, gvk=gvk, name=name),
            "patch": self._patch(model, gvk, name),
        }

    def _operation(
        self,
        action: str,
        answer: str,
        query: tuple[str, ...],
        *,
        body: str = "",
        gvk: tuple[str, str, str] | None = None,
        name: str = "",
        scope: str = "",
        method: str = "",
    ) -> Obj:
        resource = self.kind.resource
        group, version, kind = gvk or (resource.group, resource.version, resource.kind)
        place = "Namespaced" if resource.namespaced and not scope else scope
        title = "".join(part[:1].upper() + part[1:] for part in resource.group.split(".")[0:1])
        operation: Obj = {
            "operationId": f"{action}{method.title()}{title}{version.title()}{place}{resource.kind}{name.title()}",
            "parameters": [self._query(parameter) for parameter in query],
            "responses": {"200": self._answer(answer), "401": {"description": "Unauthorized"}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "kind": kind, "version": version},
        }
        if body:
            self._add_body(operation, body, self._media(action))
        elif not self.v3:
            operation["consumes"] = ["*/*"]
        if not self.v3:
            operation["produces"] = ["application/json", "application/yaml"]
            operation["schemes"] = ["https"]
        return operation

    def _media(self, action: str) -> tuple[str, ...]:
        if action != "patch":
            return ("application/json",)
        return _CUSTOM_PATCHES if self.kind.custom else _PATCHES

    def _add_body(self, operation: Obj, model: str, media: tuple[str, ...]) -> None:
        schema = {"$ref": self.base + model}
        if self.v3:
            operation["requestBody"] = {"content": {text: {"schema": schema} for text in media}}
        else:
            operation["consumes"] = list(media)
            operation["parameters"].insert(0, {"name": "body", "in": "body", "required": True, "schema": schema})

    def _answer(self, model: str) -> Obj:
        schema: Obj = {"$ref": self.base + model} if model else {"type": "string"}
        if not self.v3:
            return {"description": "OK", "schema": schema}
        return {"description": "OK", "content": {"application/json": {"schema": schema}}}

    def _query(self, name: str) -> Obj:
        kind, about = _QUERY[name]
        return self._parameter(name, "query", kind, about)

    def _parameter(self, name: str, where: str, kind: str, about: str) -> Obj:
        typed: dict[str, Any] = {"schema": {"type": kind}} if self.v3 else {"type": kind}
        parameter = {"name": name, "in": where, "description": about, **typed}
        return {**parameter, "required": True} if where == "path" else parameter

    def _item(self, place: tuple[str, ...], operations: Obj) -> Obj:
        about = {"namespace": "The namespace of the object.", "name": "The name of the object."}
        return {**operations, "parameters": [self._parameter(name, "path", "string", about[name]) for name in place]}
