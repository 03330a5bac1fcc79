"""Hostile YAML ends in a refusal, quickly, and never in the end of the process."""

import pytest

from corral.apiserver import yaml_documents
from corral.kinds.status import StatusError


def refusal(body: str) -> str:
    with pytest.raises(StatusError) as caught:
        yaml_documents.load(body.encode())
    assert caught.value.code == 400
    return caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        "? " * 100_000,
        "[{a: " * 50_000,
        "".join("\n" + " " * i + "a:" for i in range(2_000)),
    ],
)
def test_nesting_that_would_exhaust_the_c_stack_is_refused(body: str) -> None:
    assert "nested more than" in refusal(body) or "cannot decode the body as YAML" in refusal(body)


def test_moderate_nesting_and_many_brackets_are_fine() -> None:
    assert yaml_documents.load(b"[" * 100 + b"]" * 100) is not None
    assert len(yaml_documents.load(("a:\n" + "- {b: [1]}\n" * 5_000).encode())["a"]) == 5_000


def test_merges_that_multiply_are_refused_before_they_are_made() -> None:
    lines = ["a0: &a0 {" + ",".join(f"k{i}: 1" for i in range(9)) + "}"]
    lines += [f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 12)]
    assert "merge keys expand" in refusal("\n".join(lines))


def test_merges_as_people_use_them() -> None:
    body = b"base: &b {x: 1, y: 2}\nother: &o {x: 9, z: 3}\nc:\n  <<: [*b, *o]\n  y: 5\nd: {<<: *b, x: 7}\n"
    value = yaml_documents.load(body)
    assert value["c"] == {"x": 1, "y": 5, "z": 3}
    assert value["d"] == {"x": 7, "y": 2}


def test_a_mapping_that_merges_itself_ends() -> None:
    assert yaml_documents.load(b"a: &a {<<: *a, x: 1}") == {"a": {"x": 1}}


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"] + [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "aliases expand" in refusal("\n".join(lines))


def test_numbers_of_any_length_cost_nothing() -> None:
    assert "characters" in refusal("a: 0x" + "f" * 1_000_000)
    assert "characters" in refusal("a: " + "9" * 1_000_000)
    assert yaml_documents.load(b"a: " + b"1:" * 500_000 + b"1")["a"].startswith("1:1")


def test_numbers_are_numbers_and_base_sixty_is_text() -> None:
    assert yaml_documents.load(b"[1, -2, 0x1f, 1.5, 1e3, 22:22, 1:30.5]") == [1, -2, 31, 1.5, "1e3", "22:22", "1:30.5"]
