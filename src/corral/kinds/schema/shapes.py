"""The shapes of schema nodes: object with properties, map, list, scalars, anything."""

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from typing import Any, ClassVar

from corral.base import quantities
from corral.kinds.schema.base import Hook, Malformed, Mistyped, Schema, run_checks
from corral.kinds.schema.causes import duplicate, invalid, json_type, not_supported, required, type_invalid
from corral.kinds.schema.formats import QUANTITY, number_range, string_format
from corral.kinds.schema.paths import Path, keyed, render
from corral.kinds.status import Cause
from corral.kinds.types import Obj

Fields = Mapping[str, Schema]


class ObjectSchema(Schema):
    """An object with named properties. Its properties are built at first use, so that recursive definitions end."""

    __slots__ = ("_constants", "_defaulted", "_fields", "_load", "hook", "required")
    python: ClassVar[type | None] = dict

    def __init__(self, load: Callable[[], Fields]) -> None:
        super().__init__("object")
        self._load: Callable[[], Fields] | None = load
        self._fields: Fields = {}
        self._defaulted: tuple[tuple[str, Schema], ...] | None = None
        self._constants: Mapping[str, Any] = {}
        self.hook: Hook | None = None
        self.required: tuple[str, ...] = ()

    def fields(self) -> Fields:
        """All properties."""
        if self._load is not None:
            self._fields = self._load()
            self._load = None
        return self._fields

    def field(self, name: str) -> Schema | None:
        return self.fields().get(name)

    def set_constants(self, constants: Mapping[str, Any]) -> None:
        """Built-in defaults of single fields; an empty string counts as absent, as in Go."""
        self._constants = constants

    def _prune_members(self, obj: Obj, dropped: list[str], settled: Collection[str]) -> None:
        self._prune(obj, None, dropped, settled)

    def _default_members(self, obj: Obj, settled: Collection[str]) -> None:
        self._default(obj, settled)

    def _validate_members(self, obj: Obj, causes: list[Cause], settled: Collection[str]) -> None:
        self._validate(obj, None, causes, settled)

    def _prune(self, value: Any, path: Path | None, dropped: list[str], settled: Collection[str] = ()) -> None:
        if value.__class__ is not dict:
            if self.custom:
                return
            raise Mistyped(path, value, self.definition or "object")
        fields = self._fields if self._load is None else self.fields()
        unwanted: list[str] = []
        for key, item in value.items():
            child = fields.get(key)
            if settled and key in settled:
                continue
            if child is None:
                if not self.preserve_unknown:
                    unwanted.append(key)
                    dropped.append(render((path, key)))
            elif item is None:
                if not child.nullable:
                    unwanted.append(key)
            elif not (child.flat and item.__class__ is child.python):
                child._prune(item, (path, key), dropped)
        for key in unwanted:
            del value[key]

    def _needs_default(self) -> bool:
        if self._defaulted is None:
            self._defaulted = ()  # Ends the recursion of a definition that contains itself.
            self._defaulted = tuple((name, child) for name, child in self.fields().items() if child._needs_default())
            own = {
                name: child.default_value for name, child in self.fields().items() if child.default_value is not None
            }
            self._constants = {**own, **self._constants}
        return bool(self._defaulted or self._constants or self.hook)

    def _default(self, value: Any, settled: Collection[str] = ()) -> Any:
        if value.__class__ is not dict:
            return value
        for name, constant in self._constants.items():
            present = value.get(name)
            if present is None or (present == "" and not self.custom):
                value[name] = deepcopy(constant) if constant.__class__ in (dict, list) else constant
        if self.hook is not None:
            self.hook(value)
        for name, child in self._defaulted or ():
            item = value.get(name)
            if item is not None and name not in settled:
                value[name] = child._default(item)
        return value

    def _validate(self, value: Any, path: Path | None, causes: list[Cause], settled: Collection[str] = ()) -> None:
        if value.__class__ is not dict:
            _refuse_type(self, value, path, causes)
            return
        fields = self._fields if self._load is None else self.fields()
        for key, item in value.items():
            child = fields.get(key)
            if settled and key in settled:
                continue
            if child is not None and not (child.plain and item.__class__ is child.python):
                child._validate(item, (path, key), causes)
        for name in self.required:
            if name not in value or (value[name] == "" and not self.custom):
                causes.append(required(render((path, name))))
        if self.checks:
            run_checks(self.checks, value, path, causes)

    def _zero(self) -> Any:
        return {}


class MapSchema(Schema):
    """An object whose keys are data."""

    __slots__ = ("_needs", "_values")
    python: ClassVar[type | None] = dict

    def __init__(self, values: Schema) -> None:
        super().__init__("object")
        self._values = values
        self._needs: bool | None = None

    def field(self, name: str) -> Schema | None:
        return self._values

    def _prune(self, value: Any, path: Path | None, dropped: list[str]) -> None:
        if value.__class__ is not dict:
            if self.custom:
                return
            raise Mistyped(path, value, "map")
        values = self._values
        python, flat = values.python, values.flat
        for key, item in value.items():
            if flat and item.__class__ is python:
                continue
            if item is None:
                if not self.custom:
                    value[key] = values._zero()
            else:
                values._prune(item, keyed(path, key), dropped)

    def _needs_default(self) -> bool:
        if self._needs is None:
            self._needs = False
            self._needs = self._values._needs_default()
        return self._needs

    def _default(self, value: Any) -> Any:
        if value.__class__ is dict:
            for key, item in value.items():
                value[key] = self._values._default(item)
        return value

    def _validate(self, value: Any, path: Path | None, causes: list[Cause]) -> None:
        if value.__class__ is not dict:
            _refuse_type(self, value, path, causes)
            return
        values = self._values
        python, plain = values.python, values.plain
        for key, item in value.items():
            if not (plain and item.__class__ is python):
                values._validate(item, keyed(path, key), causes)
        if self.checks:
            run_checks(self.checks, value, path, causes)

    def _zero(self) -> Any:
        return {}


class ListSchema(Schema):
    """An array; a CRD's `list_type` `map` or `set` refuses items that stand twice."""

    __slots__ = ("_items", "_needs")
    python: ClassVar[type | None] = list

    def __init__(self, items: Schema) -> None:
        super().__init__("array")
        self._items = items
        self._needs: bool | None = None

    @property
    def items(self) -> Schema | None:
        return self._items

    def _prune(self, value: Any, path: Path | None, dropped: list[str]) -> None:
        if value.__class__ is not list:
            if self.custom:
                return
            raise Mistyped(path, value, "array")
        items = self._items
        python, flat = items.python, items.flat
        for index, item in enumerate(value):
            if flat and item.__class__ is python:
                continue
            if item is None:
                if not self.custom:
                    value[index] = items._zero()
            else:
                items._prune(item, (path, index), dropped)

    def _needs_default(self) -> bool:
        if self._needs is None:
            self._needs = False
            self._needs = self._items._needs_default()
        return self._needs

    def _default(self, value: Any) -> Any:
        if value.__class__ is list:
            for index, item in enumerate(value):
                value[index] = self._items._default(item)
        return value

    def _validate(self, value: Any, path: Path | None, causes: list[Cause]) -> None:
        if value.__class__ is not list:
            _refuse_type(self, value, path, causes)
            return
        items = self._items
        python, plain = items.python, items.plain
        for index, item in enumerate(value):
            if not (plain and item.__class__ is python):
                items._validate(item, (path, index), causes)
        if self.custom and self.list_type and len(value) > 1:
            # Built-in kinds enforce this only where their validation says so, not for every list map.
            if self.list_type == "map":
                self._refuse_duplicate_keys(value, path, causes)
            elif self.list_type == "set":
                self._refuse_duplicates(value, path, causes)
        if self.checks:
            run_checks(self.checks, value, path, causes)

    def _refuse_duplicate_keys(self, value: list[Any], path: Path | None, causes: list[Cause]) -> None:
        seen: set[str] = set()
        for index, item in enumerate(value):
            if item.__class__ is dict:
                key = {name: item[name] for name in self.list_map_keys if name in item}
                told = repr(key)
                if told in seen:
                    causes.append(duplicate(render((path, index)), key))
                seen.add(told)

    def _refuse_duplicates(self, value: list[Any], path: Path | None, causes: list[Cause]) -> None:
        seen: set[str] = set()
        for index, item in enumerate(value):
            told = repr(item)
            if told in seen:
                causes.append(duplicate(render((path, index)), item))
            seen.add(told)


class AnySchema(Schema):
    """Any JSON value."""

    __slots__ = ()

    def __init__(self, type: str = "") -> None:
        super().__init__(type)
        self.preserve_unknown = True

    def _prune(self, value: Any, path: Path | None, dropped: list[str]) -> None:
        if self.type == "object" and value.__class__ is not dict and not self.custom:
            raise Mistyped(path, value, "object")

    def _validate(self, value: Any, path: Path | None, causes: list[Cause]) -> None:
        if self.type == "object" and value.__class__ is not dict:
            _refuse_type(self, value, path, causes)
        elif self.checks:
            run_checks(self.checks, value, path, causes)

    def _zero(self) -> Any:
        return {} if self.type == "object" else None


class ScalarSchema(Schema):
    """A string, a number or a boolean."""

    __slots__ = ()
    flat: ClassVar[bool] = True
    accepts: ClassVar[tuple[type, ...]] = ()

    def _prune(self, value: Any, path: Path | None, dropped: list[str]) -> None:
        if value.__class__ not in self.accepts and not self.custom:
            raise Mistyped(path, value, self._wanted())

    def _validate(self, value: Any, path: Path | None, causes: list[Cause]) -> None:
        if value.__class__ not in self.accepts:
            _refuse_type(self, value, path, causes)
            return
        self._refuse_format(value, path, causes)
        # Go cannot tell "" from absent.
        if self.enum and not _among(value, self.enum) and (value != "" or self.custom):
            causes.append(not_supported(render(path), value, self.enum))
        if self.checks:
            run_checks(self.checks, value, path, causes)

    def _refuse_format(self, value: Any, path: Path | None, causes: list[Cause]) -> None:
        pass


class StringSchema(ScalarSchema):
    """A string, perhaps of a format."""

    __slots__ = ()
    python: ClassVar[type | None] = str
    accepts: ClassVar[tuple[type, ...]] = (str,)

    def __init__(self) -> None:
        super().__init__("string")

    def _refuse_format(self, value: Any, path: Path | None, causes: list[Cause]) -> None:
        if self.format:
            known = string_format(self.format)
            if known is not None and not known[0](value):
                causes.append(invalid(render(path), value, known[1]))

    def _zero(self) -> Any:
        return ""


class QuantitySchema(StringSchema):
    """A quantity; a JSON number is one too."""

    __slots__ = ()
    accepts: ClassVar[tuple[type, ...]] = (str, int, float)
    flat: ClassVar[bool] = False

    def _prune(self, value: Any, path: Path | None, dropped: list[str]) -> None:
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise Mistyped(path, value, "resource.Quantity")
        try:
            quantities.canonical(value)
        except ValueError:
            raise Malformed(path, QUANTITY) from None

    def _needs_default(self) -> bool:
        return True

    def _default(self, value: Any) -> Any:
        try:
            return quantities.canonical(value)
        except (ValueError, TypeError):
            return value  # Not a quantity: `validate` says so.

    def _zero(self) -> Any:
        return "0"


class IntOrStringSchema(ScalarSchema):
    """A whole number or a text such as `25%`."""

    __slots__ = ()
    accepts: ClassVar[tuple[type, ...]] = (int, str)

    def __init__(self) -> None:
        super().__init__("")
        self.int_or_string = True

    def _wanted(self) -> str:
        return "intstr.IntOrString"

    def _zero(self) -> Any:
        return 0


class IntegerSchema(ScalarSchema):
    """A whole number; a CRD's integer also takes 2.0, as JSON does not tell them apart."""

    __slots__ = ("_range",)
    python: ClassVar[type | None] = int
    accepts: ClassVar[tuple[type, ...]] = (int,)

    def __init__(self, format: str) -> None:
        super().__init__("integer")
        self.format = format
        self._range = number_range(format)

    def _prune(self, value: Any, path: Path | None, dropped: list[str]) -> None:
        if not self.custom:
            raise Mistyped(path, value, self._wanted())

    def _refuse_format(self, value: Any, path: Path | None, causes: list[Cause]) -> None:
        if self._range is not None and not self._range[0] <= value <= self._range[1]:
            causes.append(invalid(render(path), value, f"must fit in {self.format}"))

    def _zero(self) -> Any:
        return 0


class NumberSchema(ScalarSchema):
    """A number."""

    __slots__ = ()
    python: ClassVar[type | None] = float
    accepts: ClassVar[tuple[type, ...]] = (float, int)

    def __init__(self) -> None:
        super().__init__("number")

    def _zero(self) -> Any:
        return 0


class BooleanSchema(ScalarSchema):
    """True or false."""

    __slots__ = ()
    python: ClassVar[type | None] = bool
    accepts: ClassVar[tuple[type, ...]] = (bool,)

    def __init__(self) -> None:
        super().__init__("boolean")

    def _zero(self) -> Any:
        return False


def _among(value: Any, allowed: tuple[Any, ...]) -> bool:
    return any(value == item and isinstance(value, bool) == isinstance(item, bool) for item in allowed)


def _refuse_type(schema: Schema, value: Any, path: Path | None, causes: list[Cause]) -> None:
    if value is None and schema.nullable:
        return
    if schema.type == "integer" and value.__class__ is float and value.is_integer() and schema.custom:
        return
    wanted = "integer or string" if schema.int_or_string else schema.type
    causes.append(type_invalid(render(path), json_type(value), wanted))
