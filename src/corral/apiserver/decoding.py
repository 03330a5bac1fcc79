"""Bodies to objects: JSON and YAML, with errors a person can use, and the duplicates that strict clients ask about."""

import json
from typing import Any

import orjson
import yaml

from corral.apiserver import yaml_documents
from corral.kinds.status import bad_request, unsupported_media_type
from corral.kinds.types import Obj, Resource

BODY_LIMIT = 3 * 1024 * 1024
"""Bytes; kube-apiserver's own limit for a request body."""
_PROTOBUF = "application/vnd.kubernetes.protobuf"
JSON_TYPES = frozenset({"application/json", "", "text/json", "application/merge-patch+json"})
_YAML_TYPES = frozenset({"application/yaml", "text/yaml", "application/x-yaml", "application/apply-patch+yaml"})


def media_type(content_type: str) -> str:
    """The media type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def decode(body: bytes, content_type: str, *, duplicates: list[str] | None = None) -> Any:
    """The value that `body` holds; names of duplicated fields are appended to `duplicates`, if it is given.

    Raises:
        StatusError: 400 with the position of the mistake; 415 for a content type that is neither JSON nor YAML.
    """
    media = media_type(content_type)
    if media in JSON_TYPES:
        return _decode_json(body, duplicates)
    if media in _YAML_TYPES:
        return yaml_documents.load(body, duplicates)
    if media == _PROTOBUF:
        # Few clients send it, and its tables take memory.
        from corral.apiserver.protobuf import decode_protobuf

        return decode_protobuf(body)
    raise unsupported_media_type(
        f"the body of the request was in an unknown format - accepted media types include: "
        f"application/json, application/yaml (it was {content_type})"
    )


def decode_object(body: bytes, content_type: str, *, duplicates: list[str] | None = None) -> Obj:
    """As `decode`, for a body that must be an object.

    Raises:
        StatusError: 400 or 415.
    """
    value = decode(body, content_type, duplicates=duplicates)
    if not isinstance(value, dict):
        raise bad_request(f"the body must be an object, not {_kind_of(value)}")
    return value


def expect_kind(obj: Obj, resource: Resource) -> None:
    """Fill in kind and apiVersion if they are missing; 400 if they are another kind's."""
    given = obj.get("apiVersion") or resource.api_version
    if given != resource.api_version:
        raise bad_request(
            f"the API version in the data ({given}) does not match the expected API version ({resource.api_version})"
        )
    given = obj.get("kind") or resource.kind
    if given != resource.kind:
        raise bad_request(f"the kind in the data ({given}) does not match the expected kind ({resource.kind})")
    obj["apiVersion"], obj["kind"] = resource.api_version, resource.kind


def _kind_of(value: object) -> str:
    if value is None:
        return "empty"
    return {list: "an array", str: "a string", bool: "a boolean"}.get(type(value), "a number")


def _decode_json(body: bytes, duplicates: list[str] | None) -> Any:
    if not body:
        raise bad_request("the body is empty: an object in JSON or YAML is required")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"cannot decode the body as JSON: {error}") from error
    # Re-encoding drops duplicates, so fewer quotes than were sent is the cheap sign that there may have been some.
    if duplicates is not None and orjson.dumps(value).count(b'"') != body.count(b'"'):
        duplicates.extend(_json_duplicates(body))
    return value


def _json_duplicates(body: bytes) -> list[str]:
    """Paths of the fields that stand twice in an object: `metadata.labels.app`, `spec.containers[0].image`."""
    found: list[str] = []

    def walk(value: Any, path: str) -> None:
        if isinstance(value, _Pairs):
            seen: set[str] = set()
            for key, item in value:
                below = f"{path}.{key}" if path else key
                if key in seen:
                    found.append(below)
                seen.add(key)
                walk(item, below)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                walk(item, f"{path}[{index}]")

    walk(json.loads(body, object_pairs_hook=_Pairs), "")
    return found


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was sent."""


def encode_yaml(value: Any) -> bytes:
    """YAML text of a JSON value."""
    text: str = yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
    return text.encode()
