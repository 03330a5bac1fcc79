"""The OpenAPI documents: complete, and shaped as kubectl reads them."""

from collections.abc import Iterator
from typing import Any

import pytest

from corral.apiserver.protobuf.openapi import encode_openapi_v2
from corral.kinds import openapi
from corral.kinds.registry import Registry
from corral.kinds.types import Obj

from .samples import crd


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


@pytest.fixture(scope="module")
def with_crd() -> Registry:
    registry = Registry.builtin()
    registry.install_crd(crd(subresources={"status": {}}))
    return registry


def patch_of(document: Obj, group: str, kind: str) -> Obj:
    """As kubectl's query parameter verifier finds it."""
    for item in document["paths"].values():
        gvk = item.get("patch", {}).get("x-kubernetes-group-version-kind", {})
        if (gvk.get("group"), gvk.get("kind")) == (group, kind):
            found: Obj = item["patch"]
            return found
    raise LookupError(kind)


def test_v2_refers_to_nothing_that_is_not_there(with_crd: Registry) -> None:
    document = openapi.openapi_v2(with_crd)
    wanted = {name.removeprefix("#/definitions/") for name in references(document)}
    assert wanted <= document["definitions"].keys()
    assert "com.example.stable.v1.CronTab" in document["definitions"]
    parameters = {parameter["name"] for parameter in patch_of(document, "apps", "Deployment")["parameters"]}
    assert {"fieldValidation", "dryRun", "fieldManager", "force", "body"} <= parameters


def test_every_group_version_of_the_index_has_a_document(with_crd: Registry) -> None:
    index = openapi.openapi_v3_index(with_crd)["paths"]
    assert index["apis/apps/v1"]["serverRelativeURL"].startswith("/openapi/v3/apis/apps/v1?hash=")
    assert "api/v1" in index
    for group, versions in with_crd.groups().items():
        for version in versions:
            document = openapi.openapi_v3(with_crd, group, version)
            wanted = {name.removeprefix("#/components/schemas/") for name in references(document)}
            assert wanted <= document["components"]["schemas"].keys()


def test_v3_says_what_clients_look_for(with_crd: Registry) -> None:
    document = openapi.openapi_v3(with_crd, "", "v1")
    schemas = document["components"]["schemas"]
    assert schemas["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"] == [
        {"group": "", "kind": "Pod", "version": "v1"}
    ]
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert "zero" not in schemas["io.k8s.api.core.v1.ContainerStatus"]
    assert "restartCount" in schemas["io.k8s.api.core.v1.ContainerStatus"]["required"]
    for path in ("/api/v1/pods", "/api/v1/namespaces/{namespace}/pods/{name}/log", "/api/v1/nodes/{name}/status"):
        assert path in document["paths"]
    names = {parameter["name"] for parameter in patch_of(document, "", "Namespace")["parameters"]}
    assert {"fieldValidation", "dryRun"} <= names


def test_the_hash_changes_with_the_crd() -> None:
    registry = Registry.builtin()
    registry.install_crd(crd())
    before = openapi.openapi_v3_index(registry)["paths"]
    registry.install_crd(crd({"type": "object", "properties": {"other": {"type": "string"}}}))
    after = openapi.openapi_v3_index(registry)["paths"]
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed == {"apis/stable.example.com/v1"}


def test_prose_comes_with_the_package_and_only_then(monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
    told = openapi.openapi_v3(registry, "apps", "v1")["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"]
    assert told["description"]
    monkeypatch.setattr(openapi, "_prose", dict)
    silent = openapi.openapi_v3(registry, "apps", "v1")["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"]
    assert "description" not in silent


def fields_of(body: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: lengths and varints, which is all that the encoder writes."""

    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = body[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at

    at = 0
    while at < len(body):
        tag, at = varint(at)
        value, at = varint(at)
        if tag & 7 == 2:
            yield tag >> 3, body[at : at + value]
            at += value
        else:
            assert tag & 7 == 0
            yield tag >> 3, value


def only(body: bytes, field: int) -> bytes:
    found: bytes = next(value for number, value in fields_of(body) if number == field)
    return found


def test_protobuf_says_what_the_json_says(with_crd: Registry) -> None:
    document = openapi.openapi_v2(with_crd)
    encoded = encode_openapi_v2(document)
    assert only(encoded, 1) == b"2.0"
    models = {only(entry, 1).decode(): only(entry, 2) for _, entry in fields_of(only(encoded, 9))}
    assert models.keys() == document["definitions"].keys()
    config_map = models["io.k8s.api.core.v1.ConfigMap"]
    properties = {only(entry, 1).decode() for _, entry in fields_of(only(config_map, 25))}
    assert properties == document["definitions"]["io.k8s.api.core.v1.ConfigMap"]["properties"].keys()
    extensions = {only(value, 1): only(only(value, 2), 2) for number, value in fields_of(config_map) if number == 31}
    assert b'"kind":"ConfigMap"' in extensions[b"x-kubernetes-group-version-kind"]
    paths = {only(entry, 1).decode() for _, entry in fields_of(only(encoded, 8))}
    assert paths == document["paths"].keys()


def test_custom_resources_take_no_strategic_merge_patch(with_crd: Registry) -> None:
    custom = crd()["spec"]["names"]["kind"]
    group = crd()["spec"]["group"]
    strategic = "application/strategic-merge-patch+json"
    second = openapi.openapi_v2(with_crd)
    assert strategic in patch_of(second, "", "Pod")["consumes"]
    assert strategic not in patch_of(second, group, custom)["consumes"]
    third = openapi.openapi_v3(with_crd, group, "v1")
    media = patch_of(third, group, custom)["requestBody"]["content"]
    assert media.keys() == {
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
    }
