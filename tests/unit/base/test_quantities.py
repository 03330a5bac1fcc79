from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.base import quantities
from corral.base.quantities import Quantity, canonical, format_bytes, format_milli, milli, parse, whole

SUFFIXES = {"n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1)}
SUFFIXES |= {suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", 1)}
SUFFIXES |= {f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", 1)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "0"),
        ("0Ki", "0"),
        ("100m", "100m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        (".5", "500m"),
        ("5.", "5"),
        ("+2", "2"),
        ("-1.5Gi", "-1536Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Gi", "512Mi"),
        ("1024Ki", "1Mi"),
        ("1023", "1023"),
        ("1Ki", "1Ki"),
        ("0.5Ki", "512"),
        ("0.0001Ki", "102400u"),
        ("1e3", "1e3"),
        ("12e6", "12e6"),
        ("1E", "1E"),
        ("1E3", "1e3"),
        ("100e-3", "100e-3"),
        ("1.1n", "2n"),
        ("-1.1n", "-2n"),
        ("0.0000000001", "1n"),
        ("123456789", "123456789"),
        ("2000M", "2G"),
        ("1100M", "1100M"),
        ("9Ei", str(2**63 - 1)),
    ],
)
def test_canonical_text(text: str, said: str) -> None:
    assert canonical(text) == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "1.2.3",
        "abc",
        "1x",
        "1KI",
        "1ki",
        "1K",
        "1e",
        "1e1.5",
        "--1",
        "+-1",
        ".",
        "1Mib",
        "1e99999999999",
        "٣",
    ],
)
def test_refusals_name_the_text(text: str) -> None:
    with pytest.raises(ValueError, match=r"cannot read .* as a quantity"):
        parse(text)


def test_long_text_is_refused_and_shortened() -> None:
    with pytest.raises(ValueError) as refusal:
        parse("9" * 10_000)
    assert len(str(refusal.value)) < 300


def test_numbers_as_in_json() -> None:
    assert milli(2) == 2000
    assert milli(0.1) == 100
    assert whole(1e21) == 10**21
    wrong: tuple[Any, ...] = (True, None, [], float("nan"), float("inf"))
    for value in wrong:
        with pytest.raises(ValueError):
            parse(value)


def test_rounding_up() -> None:
    assert milli("1u") == 1
    assert milli("-1500u") == -1
    assert whole("1500m") == 2
    assert whole("1m") == 1


def test_formatting() -> None:
    assert format_milli(1500) == "1500m"
    assert format_milli(2000) == "2"
    assert format_bytes(1536) == "1536"
    assert format_bytes(3 * 2**30) == "3Gi"
    assert format_bytes(1000) == "1k"


numbers = st.decimals(min_value=-(10**6), max_value=10**6, places=3, allow_nan=False).map(lambda d: format(d, "f"))


@given(numbers, st.sampled_from(sorted(SUFFIXES)))
def test_amount_is_exact_and_survives_formatting(number: str, suffix: str) -> None:
    quantity = parse(number + suffix)
    exact = Fraction(number) * SUFFIXES[suffix] * 10**9
    if suffix.endswith("i"):
        exact = min(exact, Fraction((2**63 - 1) * 10**9))
    assert abs(quantity.nanos) >= abs(exact) > abs(quantity.nanos) - 1 or exact == quantity.nanos == 0
    assert parse(str(quantity)) == quantity
    assert canonical(str(quantity)) == str(quantity)


@given(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15))
def test_arithmetic(left: int, right: int) -> None:
    a, b = Quantity(left), Quantity(right, "BinarySI")
    assert (a + b).nanos == left + right
    assert a + b - b == a
    assert (a < b) == (left < right)
    assert (a <= b) == (left <= right)
    assert -a == a * -1
    assert bool(a) == bool(left)


def test_equality_ignores_the_format() -> None:
    assert parse("1Ki") == parse("1024")
    assert hash(parse("1Ki")) == hash(parse("1024"))
    assert parse("1") != 1


def test_format_of_a_sum_is_the_first_that_is_not_zero() -> None:
    assert str(parse("0") + parse("1Gi")) == "1Gi"
    assert str(parse("1G") + parse("1Gi")) == "2073741824"
    assert quantities.canonical("1Gi") == "1Gi"
