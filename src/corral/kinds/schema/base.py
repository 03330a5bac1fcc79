"""The face of a schema node; the shapes (object, map, list, scalar, anything) are in `shapes.py`.

Nodes are built when first looked at, shared wherever a definition is referred to, and never change afterwards. A walk
over an object touches each value once and allocates nothing for a value that is right (see `paths.py`).
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar

from corral.kinds.schema.causes import json_type
from corral.kinds.schema.paths import Path, render
from corral.kinds.status import Cause, bad_request
from corral.kinds.types import Obj

Check = Callable[[Any, Path | None, list[Cause]], None]
"""A rule about one value beyond its type: appends what is wrong."""
Hook = Callable[[Obj], None]
"""Built-in defaults of one definition that depend on other fields: fills in place."""


class Mistyped(Exception):
    """A value of a built-in kind does not fit its Go type."""

    def __init__(self, path: Path | None, value: Any, wanted: str) -> None:
        super().__init__(path, wanted)
        self.path = path
        self.got = {"integer": "number", "boolean": "bool"}.get(json_type(value), json_type(value))
        self.wanted = wanted


class Malformed(Exception):
    """A text of a built-in kind that Go cannot read into its type."""

    def __init__(self, path: Path | None, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why


class Schema:
    """One node. Attributes are OpenAPI's and `x-kubernetes-*`; absent ones are empty."""

    __slots__ = (
        "checks",
        "custom",
        "default_value",
        "definition",
        "embedded",
        "enum",
        "format",
        "int_or_string",
        "list_map_keys",
        "list_type",
        "map_type",
        "nullable",
        "patch_merge_key",
        "patch_strategy",
        "plain",
        "preserve_unknown",
        "type",
    )
    python: ClassVar[type | None] = None
    """The class of a well-typed value, where there is just one."""
    flat: ClassVar[bool] = False
    """Whether pruning a well-typed value has nothing to do."""

    def __init__(self, type: str) -> None:
        self.type = type
        self.format = ""
        self.list_type = ""
        self.list_map_keys: tuple[str, ...] = ()
        self.map_type = ""
        self.patch_strategy: tuple[str, ...] = ()
        self.patch_merge_key = ""
        self.preserve_unknown = False
        self.int_or_string = False
        self.nullable = False
        self.embedded = False
        self.custom = False
        """Of a CRD: wrong types are refused by `validate`, not by `prune`."""
        self.enum: tuple[Any, ...] = ()
        self.default_value: Any = None
        """What an absent value becomes; None means that it stays absent."""
        self.definition = ""
        """Short name of the built-in definition, such as `core.v1.Container`."""
        self.checks: tuple[Check, ...] = ()
        self.plain = False
        """Whether a value of class `python` is always valid."""

    def __repr__(self) -> str:
        return f"Schema({self.definition or self.type!r})"

    def field(self, name: str) -> "Schema | None":
        """The property `name`, or the schema of a map's values; None if there is no such field."""
        return None

    @property
    def items(self) -> "Schema | None":
        """The schema of a list's items."""
        return None

    def prune(self, obj: Obj, settled: Collection[str] = ()) -> list[str]:
        """Drop what the schema does not know, in place, as decoding into Go types does; `null` counts as absent.

        Members of the object in `settled` are left alone, here and in `default` and `validate`: the caller knows that
        they have gone through all three.

        Returns:
            The paths of unknown fields that were dropped: `spec.foo`, `spec.containers[0].bar`.

        Raises:
            StatusError: 400, if a value of a built-in kind has the wrong JSON type, or is no quantity where one must
                be: Kubernetes never gets as far as validation then. Custom resources are pruned as far as their types
                fit; `validate` names the rest.
        """
        dropped: list[str] = []
        try:
            self._prune_members(obj, dropped, settled)
        except (Mistyped, Malformed) as wrong:
            raise _cannot_decode(obj, wrong) from None
        return dropped

    def default(self, obj: Obj, settled: Collection[str] = ()) -> None:
        """Fill in what is absent, in place: the schema's defaults and those of Kubernetes' Go types.

        Expects an object that `prune` has accepted. Quantities come out in canonical form (`1000m` -> `1`).
        """
        if self._needs_default():
            self._default_members(obj, settled)

    def validate(self, obj: Obj, settled: Collection[str] = ()) -> list[Cause]:
        """What is wrong with the object: types, required fields, enumerations, formats, duplicate keys of list maps,
        and, for custom resources, value constraints.

        A wrong type is a `FieldValueTypeInvalid` cause; with `prune` before, only custom resources can have one.
        """
        causes: list[Cause] = []
        self._validate_members(obj, causes, settled)
        return causes

    def default_into(self, value: Any) -> Any:
        """The value with its defaults filled in; the value itself where it is a mapping or a list."""
        return self._default(value) if self._needs_default() else value

    def _prune_members(self, obj: Obj, dropped: list[str], settled: Collection[str]) -> None:
        self._prune(obj, None, dropped)

    def _default_members(self, obj: Obj, settled: Collection[str]) -> None:
        self._default(obj)

    def _validate_members(self, obj: Obj, causes: list[Cause], settled: Collection[str]) -> None:
        self._validate(obj, None, causes)

    def _prune(self, value: Any, path: Path | None, dropped: list[str]) -> None:
        raise NotImplementedError

    def _needs_default(self) -> bool:
        return False

    def _default(self, value: Any) -> Any:
        return value

    def _validate(self, value: Any, path: Path | None, causes: list[Cause]) -> None:
        raise NotImplementedError

    def _zero(self) -> Any:
        """What Go makes of a `null` inside a list or a map."""
        return None

    def _wanted(self) -> str:
        """The type in Go's words, for refusals."""
        return self.format or self.type


def _cannot_decode(obj: Obj, wrong: Mistyped | Malformed) -> Exception:
    kind = obj.get("kind", "object") if isinstance(obj, dict) else "object"
    version = obj.get("apiVersion", "v1") if isinstance(obj, dict) else "v1"
    where = render(wrong.path) or "."
    if isinstance(wrong, Malformed):
        why = f"{where}: {wrong.why}"
    else:
        why = f"json: cannot unmarshal {wrong.got} into Go struct field {where} of type {wrong.wanted}"
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {why}')


def run_checks(checks: Sequence[Check], value: Any, path: Path | None, causes: list[Cause]) -> None:
    """Apply every check."""
    for check in checks:
        check(value, path, causes)
