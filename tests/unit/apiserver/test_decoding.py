import pytest

from corral.apiserver.decoding import decode, decode_object, encode_yaml
from corral.kinds.status import StatusError


def test_json_errors_name_the_position() -> None:
    with pytest.raises(StatusError, match=r"line 1 column 6") as refused:
        decode(b'{"a":}', "application/json")
    assert refused.value.code == 400


def test_unknown_kinds_in_protobuf_are_refused_by_name() -> None:
    with pytest.raises(StatusError, match="application/json") as refused:
        decode(b"k8s\x00", "application/vnd.kubernetes.protobuf")
    assert refused.value.code == 415


@pytest.mark.parametrize("body", [b"[]", b"3", b'"x"', b"null"])
def test_a_body_must_be_an_object(body: bytes) -> None:
    with pytest.raises(StatusError) as refused:
        decode_object(body, "application/json")
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("body", "content_type", "found"),
    [
        (b'{"a":1,"a":2}', "application/json", ["a"]),
        (b'{"a":"\\u0022","b":{"c":1,"c":1}}', "application/json", ["b.c"]),
        (b'{"a":1,"b":"a"}', "application/json", []),
        (b"a: 1\nb: 2\na: 3\n", "application/yaml", ["a"]),
    ],
)
def test_duplicates_are_noted(body: bytes, content_type: str, found: list[str]) -> None:
    duplicates: list[str] = []
    decode(body, content_type, duplicates=duplicates)
    assert duplicates == found


def test_yaml_is_read_as_kubernetes_does() -> None:
    body = b"when: 2020-01-01\n1: one\ntrue: yes\ntext: '1'\n"
    assert decode(body, "application/yaml; charset=utf-8") == {
        "when": "2020-01-01",
        "1": "one",
        "true": True,
        "text": "1",
    }


def test_yaml_that_expands_without_end_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(StatusError, match="too many values"):
        decode("\n".join(lines).encode(), "application/yaml")


def test_broken_yaml_is_refused() -> None:
    with pytest.raises(StatusError, match="line 2"):
        decode(b"a: [", "application/yaml")


def test_yaml_goes_there_and_back() -> None:
    value = {"a": ["x", 1, None, True], "b": {"c": "no"}}
    assert decode(encode_yaml(value), "application/yaml") == value
