"""Patterns that would take for ever do not, and all others mean what they meant."""

import re

import pytest

from corral.kinds.schema import cel
from corral.kinds.schema.checks import python_pattern
from corral.kinds.schema.patterns import LONG, matcher, nests

NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        *((pattern, True) for pattern in (r"^(a+)*$", r"(a|b*)+", r"((ab)*c)*", r"(.)\1", NAME)),
        *((pattern, False) for pattern in (r"^a+b*$", r"^\d{1,3}(\.\d{1,3}){3}$", r"[a-z]+", r"(a?b)*")),
    ],
)
def test_nested_repetitions_are_seen(pattern: str, expected: bool) -> None:
    assert nests(pattern) is expected


@pytest.mark.skipif(not cel.available(), reason="needs corral[cel]")
@pytest.mark.parametrize("pattern", [r"^(a+)*$", r"^(a|a)*$", r"^([a-z0-9]+)*$", r"^(.*a){12,}$", r"^(a*)*b$"])
def test_no_text_stops_the_server(pattern: str) -> None:
    assert not matcher(pattern, python_pattern(pattern))("a" * 10_000 + "!")


@pytest.mark.skipif(not cel.available(), reason="needs corral[cel]")
def test_long_texts_are_matched_in_linear_time() -> None:
    assert not matcher(r"a*a*a*a*b", r"a*a*a*a*b")("a" * 20_000)
    assert matcher(r"x$", python_pattern(r"x$"))("a" * LONG + "x")


@pytest.mark.parametrize("text", ["a", "a.b-c.d", "a..b", "-a", "", "a\n", "A"])
def test_both_engines_agree(text: str) -> None:
    expected = re.search(python_pattern(NAME), text) is not None
    assert matcher(NAME, python_pattern(NAME))(text) is expected
    assert matcher(r'^"\\\n', r'^"\\\n')(text) is False
