"""Choosing objects: label selectors, field selectors and node selectors.

The text grammar is kubectl's (`a=b,c!=d,e in (x,y),!f,g notin (z),h>1`); the object forms are `metav1.LabelSelector`
and `core/v1 NodeSelector`. As in Kubernetes, the negative operators also choose objects that lack the key.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from corral.kinds import fields
from corral.kinds.status import StatusError, bad_request
from corral.kinds.types import Obj

_TOKEN: Final = re.compile(r"\s*(==|!=|[=!<>(),]|[^\s=!<>(),]+)\s*")
_NAME: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_PREFIX: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_SYMBOLS: Final = {"=": "In", "==": "In", "!=": "NotIn", ">": "Gt", "<": "Lt"}
_WORDS: Final = {"in": "In", "notin": "NotIn"}
_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. `operator` is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` fulfil this."""
        operator = self.operator
        if operator == "In":
            return self.key in labels and labels[self.key] in self.values
        if operator == "NotIn":
            return self.key not in labels or labels[self.key] not in self.values
        if operator == "Exists":
            return self.key in labels
        if operator == "DoesNotExist":
            return self.key not in labels
        actual = labels.get(self.key, "")
        (bound,) = self.values
        if _INTEGER.fullmatch(actual) is None:
            return False
        return int(actual) > int(bound) if operator == "Gt" else int(actual) < int(bound)


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Requirements that must all hold; `nothing` chooses no object at all, whatever its labels."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def everything(self) -> bool:
        """Whether every object is chosen."""
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether an object with `labels` is chosen."""
        if self.nothing:
            return False
        present = labels or {}
        return all(requirement.matches(present) for requirement in self.requirements)

    @staticmethod
    def parse(text: str) -> "LabelSelector":
        """The selector that kubectl's `-l text` means; the empty text chooses everything.

        Raises:
            StatusError: 400, `text` is not a label selector.
        """
        return _parse_labels(text)

    @staticmethod
    def from_object(selector: Obj | None) -> "LabelSelector":
        """The selector that a `metav1.LabelSelector` means: absent chooses nothing, empty chooses everything.

        Raises:
            StatusError: 400, an operator or its values make no sense.
        """
        if selector is None:
            return LabelSelector(nothing=True)
        found = [_requirement(key, "In", [value]) for key, value in (selector.get("matchLabels") or {}).items()]
        for expression in selector.get("matchExpressions") or ():
            operator = expression.get("operator", "")
            if operator in ("Gt", "Lt"):
                raise bad_request(f'"{operator}" is not a valid label selector operator')
            found.append(_requirement(expression.get("key", ""), operator, expression.get("values") or ()))
        return LabelSelector(tuple(found))


def _requirement(key: str, operator: str, values: Sequence[str]) -> Requirement:
    _check_key(key)
    if operator not in _OPERATORS:
        raise bad_request(f'"{operator}" is not a valid label selector operator')
    if operator in ("In", "NotIn") and not values:
        raise bad_request(f"cannot select by {key}: for 'in', 'notin' operators, values set can't be empty")
    if operator in ("Exists", "DoesNotExist") and values:
        raise bad_request(f"cannot select by {key}: values set must be empty for exists and does not exist")
    if operator in ("Gt", "Lt") and (len(values) != 1 or _INTEGER.fullmatch(values[0]) is None):
        raise bad_request(f"cannot select by {key}: for 'Gt', 'Lt' operators, exactly one integer is required")
    for value in values:
        if value and (len(value) > 63 or _NAME.fullmatch(value) is None):
            raise bad_request(
                f"cannot select by {key}: {value!r} is not a label value: it must be at most 63 characters, consist of "
                "alphanumeric characters, '-', '_' or '.', and start and end with an alphanumeric character"
            )
    return Requirement(key, operator, frozenset(values))


def _check_key(key: str) -> None:
    prefix, slash, name = key.rpartition("/")
    well_formed = len(name) <= 63 and _NAME.fullmatch(name) is not None
    if slash:
        well_formed = well_formed and len(prefix) <= 253 and _PREFIX.fullmatch(prefix) is not None
    if not well_formed:
        raise bad_request(
            f"cannot select by {key!r}: it is not a label key: write name or dns.prefix/name, where the name is at "
            "most 63 alphanumeric characters, '-', '_' or '.', and starts and ends with an alphanumeric character"
        )


class _LabelParser:
    """Recursive descent over the tokens of a label selector."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[str] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                break
            self._tokens.append(match[1])
            position = match.end()
        self._at = 0

    def requirements(self) -> tuple[Requirement, ...]:
        found: list[Requirement] = []
        while self._peek():
            found.append(self._one())
            if self._peek() and self._take() != ",":
                raise self._refusal(f"found {self._tokens[self._at - 1]!r}, expected: ',' or end of string")
            if self._tokens[-1] == "," and not self._peek():
                raise self._refusal("found '', expected: identifier after ','")
        return tuple(found)

    def _one(self) -> Requirement:
        if self._peek() == "!":
            self._take()
            return _requirement(self._word("identifier"), "DoesNotExist", ())
        key = self._word("identifier")
        following = self._peek()
        if following in ("", ","):
            return _requirement(key, "Exists", ())
        operator = self._take()
        if operator in _WORDS:
            return _requirement(key, _WORDS[operator], self._values())
        if operator in _SYMBOLS:
            value = "" if self._peek() in ("", ",") else self._word("identifier")
            return _requirement(key, _SYMBOLS[operator], [value])
        raise self._refusal(f"found {operator!r}, expected: in, notin, =, ==, !=, gt, lt")

    def _values(self) -> list[str]:
        if (token := self._take()) != "(":
            raise self._refusal(f"found {token!r}, expected: '('")
        values: list[str] = []
        expect_value = True
        while (token := self._take()) != ")":
            if not token:
                raise self._refusal("found '', expected: ',' or ')'")
            if token == ",":
                if expect_value:
                    values.append("")
                expect_value = True
            elif expect_value and token not in _SYMBOLS and token not in ("!", "("):
                values.append(token)
                expect_value = False
            else:
                raise self._refusal(f"found {token!r}, expected: ',' or ')'")
        if expect_value:
            values.append("")
        return values

    def _word(self, expected: str) -> str:
        token = self._take()
        if not token or token in _SYMBOLS or token in ("!", "(", ")", ","):
            raise self._refusal(f"found {token!r}, expected: {expected}")
        return token

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _refusal(self, why: str) -> StatusError:
        return bad_request(f"unable to parse requirement: {why} in the label selector {self._text!r}")


@lru_cache(maxsize=1024)
def _parse_labels(text: str) -> LabelSelector:
    return LabelSelector(_LabelParser(text).requirements())


@dataclass(frozen=True, slots=True)
class FieldRequirement:
    """One condition on one field, by its dotted path."""

    path: str
    value: str
    equal: bool = True

    def matches(self, obj: Obj) -> bool:
        """Whether `obj` fulfils this; an absent field counts as the empty text."""
        return (field_text(obj, self.path) == self.value) is self.equal


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Field requirements that must all hold."""

    fields: tuple[FieldRequirement, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether every object is chosen."""
        return not self.fields

    def matches(self, obj: Obj) -> bool:
        """Whether `obj` is chosen."""
        return all(requirement.matches(obj) for requirement in self.fields)

    def required(self, path: str) -> str | None:
        """The value that `path` must have exactly, if the selector says one."""
        return next((field.value for field in self.fields if field.equal and field.path == path), None)

    def exact(self) -> FieldRequirement | None:
        """A requirement that a field of the object's own, beside its name and namespace, has exactly one value."""
        return next((one for one in self.fields if one.equal and not one.path.startswith("metadata.")), None)

    @staticmethod
    def parse(text: str) -> "FieldSelector":
        """The selector that kubectl's `--field-selector text` means.

        Raises:
            StatusError: 400, `text` is not a field selector. Which fields a kind offers is the caller's to check.
        """
        return _parse_fields(text)


@lru_cache(maxsize=1024)
def _parse_fields(text: str) -> FieldSelector:
    return FieldSelector(tuple(_field_requirement(term) for term in _split_terms(text) if term))


def _split_terms(text: str) -> list[str]:
    terms, start, position = [], 0, 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == ",":
            terms.append(text[start:position])
            start = position + 1
        position += 1
    terms.append(text[start:])
    return terms


def _field_requirement(term: str) -> FieldRequirement:
    match = re.match(r"([^=!\\]*?)(!=|==|=)(.*)", term, re.DOTALL)
    if match is None or not match[1]:
        raise bad_request(
            f"invalid selector: {term!r}; can't understand it: write field=value, field==value or field!=value"
        )
    return FieldRequirement(match[1].strip(), _unescape(match[3]), match[2] != "!=")


def _unescape(value: str) -> str:
    """Undo `\\\\`, `\\,` and `\\=`; a bare comma or equals sign, or another escape, is an error as in Kubernetes."""
    out, position = [], 0
    while position < len(value):
        character = value[position]
        if character == "\\":
            position += 1
            character = value[position : position + 1]
            if character not in ("\\", ",", "="):
                raise bad_request(
                    f"invalid field selector: invalid escape sequence in {value!r}: escape only \\, comma or ="
                )
        elif character == "=":
            raise bad_request(f"invalid field selector: unescaped {character!r} in {value!r}: write \\=")
        out.append(character)
        position += 1
    return "".join(out)


_ABSENT_AS: Final = {"spec.unschedulable": "false", "spec.hostNetwork": "false"}


def field_text(obj: Obj, path: str) -> str:
    """A field as selectors compare it."""
    value: Any = fields.get(obj, path)
    if path == "source" and isinstance(value, Mapping):
        # An Event's `source` selects by the reporting component (registry/core/event: ToSelectableFields).
        value = value.get("component") or obj.get("reportingComponent")
    if value is None:
        return _ABSENT_AS.get(path, "")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@dataclass(frozen=True, slots=True)
class NodeSelector:
    """Alternatives (`nodeSelectorTerms`) of label requirements and requirements on metadata.name."""

    terms: tuple[tuple[tuple[Requirement, ...], tuple[Requirement, ...]], ...]

    def matches(self, labels: Mapping[str, str], name: str) -> bool:
        """Whether a node called `name` with `labels` fulfils at least one term."""
        named = {"metadata.name": name}
        return any(
            all(requirement.matches(labels) for requirement in on_labels)
            and all(requirement.matches(named) for requirement in on_fields)
            for on_labels, on_fields in self.terms
        )

    @staticmethod
    def from_object(selector: Obj | None) -> "NodeSelector":
        """The meaning of a `core/v1 NodeSelector`; an empty term, and a selector without terms, choose nothing.

        Raises:
            StatusError: 400, an operator or its values make no sense.
        """
        return NodeSelector(
            tuple(
                node_term(term) for term in (selector or {}).get("nodeSelectorTerms") or () if _term_has_content(term)
            )
        )


def _term_has_content(term: Obj) -> bool:
    return bool(term.get("matchExpressions") or term.get("matchFields"))


def node_term(term: Obj) -> tuple[tuple[Requirement, ...], tuple[Requirement, ...]]:
    """The label and the field requirements of one `NodeSelectorTerm` (also of a preferred one's `preference`).

    Raises:
        StatusError: 400, an operator or its values make no sense.
    """

    return (
        tuple(
            _requirement(expression.get("key", ""), expression.get("operator", ""), expression.get("values") or ())
            for expression in term.get("matchExpressions") or ()
        ),
        tuple(_node_field(expression) for expression in term.get("matchFields") or ()),
    )


def _node_field(expression: Obj) -> Requirement:
    key, operator, values = expression.get("key", ""), expression.get("operator", ""), expression.get("values") or ()
    if key != "metadata.name" or operator not in ("In", "NotIn") or len(values) != 1:
        raise bad_request(f"cannot select nodes by the field {key!r}: only metadata.name, In or NotIn, with one value")
    return Requirement(key, operator, frozenset(values))
