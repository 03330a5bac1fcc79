"""`x-kubernetes-validations`: rules in the Common Expression Language.

The library is optional (`corral[cel]`). Without it a CRD that has rules is refused rather than served unchecked.
Expressions are compiled once per text, untyped (`self` is dynamic), so a rule that compares a number with a text fails
when it is evaluated and not when the CRD is made. Kubernetes' own functions for lists, patterns and addresses are
there; those for URLs, quantities and semantic versions, and `indexOf` on lists, are not, and a rule that uses one is
refused with the CRD.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

from corral.base.clock import parse_rfc3339
from corral.base.errors import CorralError
from corral.kinds.schema.causes import forbidden, invalid, json_type, required
from corral.kinds.schema.paths import Path, keyed, render
from corral.kinds.status import Cause, StatusError
from corral.kinds.types import Obj

RULES: Final = "x-kubernetes-validations"
_REMEDY: Final = "pip install 'corral[cel]', then start the server again"
_OLD: Final = re.compile(r"\boldSelf\b")
_RESERVED: Final = frozenset(
    (
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if"),
        *("import", "let", "loop", "package", "namespace", "return", "var", "void", "while"),
    )
)
Node = Mapping[str, Any]


class CelUnavailable(StatusError):
    """There are rules to evaluate and no library to do it."""

    def __init__(self) -> None:
        why = f"cannot evaluate CEL rules: the package cel-expr-python is not installed ({_REMEDY})"
        super().__init__(422, "Invalid", why)


class CelInvalid(CorralError):
    """An expression does not compile."""


def available() -> bool:
    """Whether rules can be evaluated."""
    return find_spec("cel_expr_python") is not None


def escaped(name: str) -> str:
    """A property's name as expressions write it: `foo-bar` is `foo__dash__bar`, `in` is `__in__`."""
    if name in _RESERVED:
        return f"__{name}__"
    for text, word in (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")):
        name = name.replace(text, word)
    return name


@cache
def _environment() -> Any:
    try:
        from cel_expr_python import cel
        from cel_expr_python.ext import ext_bindings, ext_encoders, ext_math, ext_optional, ext_strings
    except ImportError as error:
        raise CelUnavailable from error
    extensions = [
        ext_bindings.ExtBindings(),
        ext_encoders.ExtEncoders(),
        ext_math.ExtMath(),
        ext_optional.ExtOptional(),
        ext_strings.ExtStrings(),
    ]
    dynamic = cel.Type.DYN
    names = ("self", "oldSelf", "old_value", "old_known")
    return cel.NewEnv(variables=dict.fromkeys(names, dynamic), extensions=extensions, functions=list(_functions(cel)))


def _functions(cel: Any) -> Iterator[Any]:
    kinds = cel.Type
    texts, items = kinds.STRING, kinds.List(kinds.DYN)
    table: Sequence[tuple[str, list[Any], Any, Callable[..., Any], bool]] = (
        ("find", [texts, texts], texts, _find, True),
        ("findAll", [texts, texts], kinds.List(texts), lambda text, pattern: re.findall(pattern, text), True),
        ("isSorted", [items], kinds.BOOL, lambda values: list(values) == sorted(values), True),
        ("sum", [items], kinds.DYN, sum, True),
        ("min", [items], kinds.DYN, min, True),
        ("max", [items], kinds.DYN, max, True),
        ("isIP", [texts], kinds.BOOL, lambda text: _parses(ipaddress.ip_address, text), False),
        ("isCIDR", [texts], kinds.BOOL, lambda text: "/" in text and _parses(ipaddress.ip_network, text), False),
    )
    for name, parameters, result, impl, member in table:
        overload = cel.Overload(
            id=f"corral_{name}", return_type=result, parameters=parameters, is_member=member, impl=impl
        )
        yield cel.FunctionDecl(name, [overload])


def _find(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    return match[0] if match else ""


def _parses(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


@cache
def compiled(expression: str, optional_old: bool = False) -> Any:
    """The compiled expression.

    Raises:
        CelUnavailable: the library is not there.
        CelInvalid: it does not compile.
    """
    text = expression
    if optional_old:
        text = f"cel.bind(oldSelf, old_known ? optional.of(old_value) : optional.none(), ({expression}))"
    try:
        return _environment().compile(text)
    except (RuntimeError, ValueError) as error:
        why = str(error).removeprefix("INVALID_ARGUMENT: ").splitlines()[0]
        raise CelInvalid(f"compilation failed: {why}", "see kubernetes.io/docs/reference/using-api/cel") from error


def check_rules(node: Node, path: str) -> list[Cause]:
    """What is wrong with the rules of one node of a CRD's schema."""
    causes: list[Cause] = []
    for index, rule in enumerate(node.get(RULES) or ()):
        where = f"{path}.{RULES}[{index}]"
        if not available():
            why = f"CEL rules need the package cel-expr-python, which is not installed: {_REMEDY}"
            return [forbidden(where, why)]
        for name in ("rule", "messageExpression"):
            if not rule.get(name):
                continue
            try:
                expression = compiled(rule[name], bool(rule.get("optionalOldSelf")))
            except CelInvalid as error:
                causes.append(invalid(f"{where}.{name}", rule[name], error.message))
                continue
            result = expression.return_type().name()
            wanted = "BOOL" if name == "rule" else "STRING"
            if result not in (wanted, "DYN"):
                why = f"cel expression must evaluate to a {'bool' if name == 'rule' else 'string'}"
                causes.append(invalid(f"{where}.{name}", rule[name], why))
        if not rule.get("rule", "").strip():
            causes.append(required(f"{where}.rule", "rule is not specified"))
    return causes


@dataclass(slots=True)
class Rules:
    """The rules of a schema: its own, and those further inside."""

    node: Node
    own: Sequence[Mapping[str, Any]]
    fields: Mapping[str, "Rules"] = field(default_factory=dict)
    values: "Rules | None" = None
    items: "Rules | None" = None

    def check(self, value: Obj, old: Obj | None) -> list[Cause]:
        """Every rule that the object breaks; `old` is what it replaces."""
        causes: list[Cause] = []
        self._check(value, old, None, causes)
        return causes

    def _check(self, value: Any, old: Any, path: Path | None, causes: list[Cause]) -> None:
        if self.own:
            now, before = _view(value, self.node), None if old is None else _view(old, self.node)
            for rule in self.own:
                _evaluate(rule, now, before, path, causes)
        if value.__class__ is dict:
            previous = old if old.__class__ is dict else {}
            for name, item in value.items():
                inner = self.fields.get(name, self.values)
                if inner is not None:
                    where = keyed(path, name) if inner is self.values else (path, name)
                    inner._check(item, previous.get(name), where, causes)
        elif value.__class__ is list and self.items is not None:
            for index, item in enumerate(value):
                self.items._check(item, self._counterpart(item, old), (path, index), causes)

    def _counterpart(self, item: Any, old: Any) -> Any:
        """The old item with the same keys; only list maps say which one that is."""
        keys = self.node.get("x-kubernetes-list-map-keys")
        if self.node.get("x-kubernetes-list-type") != "map" or not keys or old.__class__ is not list:
            return None
        wanted = [item.get(key) for key in keys]
        return next((other for other in old if [other.get(key) for key in keys] == wanted), None)


def rules_of(node: Node) -> Rules | None:
    """The rules of a schema, or None if it has none.

    Raises:
        CelUnavailable: it has some, and there is no library.
    """
    rules = _collect(node)
    if rules is not None and not available():
        raise CelUnavailable
    return rules


def _collect(node: Node) -> Rules | None:
    fields = {name: rules for name, child in (node.get("properties") or {}).items() if (rules := _collect(child))}
    values = node.get("additionalProperties")
    items = node.get("items")
    found = Rules(
        node,
        node.get(RULES) or (),
        fields,
        _collect(values) if isinstance(values, Mapping) else None,
        _collect(items) if isinstance(items, Mapping) else None,
    )
    return found if found.own or found.fields or found.values or found.items else None


def _view(value: Any, node: Node) -> Any:
    """The value as expressions see it: property names escaped, times as times."""
    if value.__class__ is dict:
        known = node.get("properties") or {}
        inner = node.get("additionalProperties")
        if not known:
            return {k: _view(v, inner) for k, v in value.items()} if isinstance(inner, Mapping) else value
        return {escaped(name): _view(item, known.get(name) or {}) for name, item in value.items()}
    if value.__class__ is list:
        inner = node.get("items")
        return [_view(item, inner) for item in value] if isinstance(inner, Mapping) else value
    if node.get("format") == "date-time" and isinstance(value, str):
        try:
            return parse_rfc3339(value)
        except ValueError:
            return value
    return value


def _evaluate(rule: Mapping[str, Any], value: Any, old: Any, path: Path | None, causes: list[Cause]) -> None:
    text = rule["rule"]
    optional = bool(rule.get("optionalOldSelf"))
    if old is None and not optional and _OLD.search(text):
        return  # A transition rule, and this is new.
    data = {"self": value, "oldSelf": old, "old_value": old, "old_known": old is not None}
    message = rule.get("message", "").strip() or f"failed rule: {text}"
    result = _run(text, data, optional)
    if result is True:
        return
    if isinstance(result, _Failure):
        message = f"{result.why} evaluating rule: {message}"
    elif rule.get("messageExpression"):
        told = _run(rule["messageExpression"], data, optional)
        if isinstance(told, str) and told.strip():
            message = told
    where = render(path) + rule.get("fieldPath", "")
    causes.append(_cause(rule.get("reason", ""), where.lstrip("."), value, message))


@dataclass(frozen=True, slots=True)
class _Failure:
    why: str


def _run(expression: str, data: Mapping[str, Any], optional: bool) -> Any:
    try:
        outcome = compiled(expression, optional).eval(data=data)
    except (RuntimeError, ValueError, TypeError) as error:
        return _Failure(str(error).splitlines()[0])
    if outcome.type().name() == "ERROR":
        return _Failure(str(outcome.plain_value()))
    return outcome.plain_value()


def _cause(reason: str, path: str, value: Any, message: str) -> Cause:
    shown = json_type(value) if value.__class__ in (dict, list) else value
    if reason == "FieldValueForbidden":
        return forbidden(path, message)
    if reason == "FieldValueRequired":
        return required(path, message)
    if reason == "FieldValueDuplicate":
        return Cause(reason, f'Duplicate value: "{shown}"', path)
    return invalid(path, shown, message)
