from typing import Any

import pytest

from corral.kinds import fields

DOCUMENT = {
    "metadata": {
        "name": "web-0",
        "labels": {"app": "web", "app.kubernetes.io/name": 'a"b'},
        "annotations": {"example.com/note": "line\nbreak"},
    },
    "spec": {"replicas": 3, "paused": False, "items": [{"n": 1, "v": "a"}, {"n": 2, "v": "b"}, {"v": "c"}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Synced", "status": "False"}]},
}


def test_dotted_path() -> None:
    assert fields.get(DOCUMENT, "spec.replicas") == 3
    assert fields.get(DOCUMENT, "spec.gone.deeper") is None
    assert fields.get(DOCUMENT, "spec.replicas.deeper") is None


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("metadata.name", "web-0"),
        ("metadata.namespace", None),
        ("metadata.labels['app.kubernetes.io/name']", 'a"b'),
        ("metadata.labels['gone']", None),
        ("metadata.annotations['example.com/note']", "line\nbreak"),
        ("metadata.labels", 'app="web"\napp.kubernetes.io/name="a\\"b"'),
        ("metadata.annotations", 'example.com/note="line\\nbreak"'),
    ],
)
def test_downward_api(path: str, text: str | None) -> None:
    assert fields.field_ref(DOCUMENT, path) == text


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".metadata.name", ["web-0"]),
        ("{.metadata.name}", ["web-0"]),
        ("$.metadata.name", ["web-0"]),
        (".metadata['name']", ["web-0"]),
        ('.metadata.labels["app.kubernetes.io/name"]', ['a"b']),
        (r".metadata.labels.app\.kubernetes\.io/name", ['a"b']),
        (".spec.items[*].v", ["a", "b", "c"]),
        (".spec.items[0].v", ["a"]),
        (".spec.items[-1].v", ["c"]),
        (".spec.items[9].v", []),
        (".spec.items[0:2].v", ["a", "b"]),
        (".spec.items[?(@.n>1)].v", ["b"]),
        (".spec.items[?(@.n)].v", ["a", "b"]),
        (".spec.items[?(@.n != 1)].v", ["b"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Gone')].status", []),
        ('.status.conditions[?(@.type == "a]b")].status', []),
        ("..status", [DOCUMENT["status"], "True", "False"]),
        (".gone.deeper", []),
        (".spec.paused", [False]),
        (".", [DOCUMENT]),
        (".metadata.labels.*", ["web", 'a"b']),
    ],
)
def test_json_path(path: str, found: list[Any]) -> None:
    assert fields.json_path(DOCUMENT, path) == found


@pytest.mark.parametrize("path", [".a[", ".a[x]", ".a[?(@.b==c)]", ".a..", ".a[?(@.b=='c'"])
def test_json_path_refusals(path: str) -> None:
    with pytest.raises(ValueError, match="cannot read the JSONPath"):
        fields.json_path({"a": []}, path)
