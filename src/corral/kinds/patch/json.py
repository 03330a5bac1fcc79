"""JSON patch, RFC 6902, by the `jsonpatch` library, with the API server's limits and refusals."""

from typing import Any, Final

import jsonpatch
import jsonpointer
import orjson

from corral.kinds.patch.documents import copied
from corral.kinds.status import StatusError, bad_request
from corral.kinds.types import Obj

MAX_OPERATIONS: Final = 10_000
"""Source: apiserver/pkg/endpoints/handlers/patch.go, maxJSONPatchOperations."""
MAX_COPIED_BYTES: Final = 3 * 1024 * 1024
"""Each `copy` may double a document; together they may copy as much as a request body may hold."""

_OPERATIONS: Final = frozenset(("add", "remove", "replace", "move", "copy", "test"))


def json_patch(obj: Obj, ops: Any) -> Obj:
    """`obj` after the operations `ops`; the result shares nothing with `obj`.

    Raises:
        StatusError: 400, `ops` is not a list of well-formed operations; 413, there are too many of them, or they copy
            too much; 422, an operation cannot be carried out, or a `test` fails.
    """
    steps = [_step(operation, index) for index, operation in enumerate(_checked(ops))]
    result: Any = copied(obj)
    copied_bytes = 0
    try:
        for operation, step in zip(ops, steps, strict=True):
            if operation["op"] == "copy":
                copied_bytes += _size(result, operation.get("from", ""))
            if copied_bytes > MAX_COPIED_BYTES:
                raise _too_large(f"the copy operations of a JSON patch may copy {MAX_COPIED_BYTES} bytes in all")
            result = step.apply(result, in_place=True)
    except jsonpatch.JsonPatchTestFailed as error:
        raise _unprocessable(f"testing value {operation['path']} failed: test failed") from error
    except jsonpatch.InvalidJsonPatch as error:
        raise bad_request(f"cannot read the JSON patch: {_said(error)}") from error
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise _unprocessable(_said(error)) from error
    if not isinstance(result, dict):
        raise _unprocessable("the patch replaces the object with something that is not an object")
    patched: Obj = result
    return patched


def _checked(ops: Any) -> list[Any]:
    if not isinstance(ops, list):
        raise bad_request("cannot read the JSON patch: it must be a list of operations")
    if len(ops) > MAX_OPERATIONS:
        raise _too_large(f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(ops)}")
    return ops


def _step(operation: Any, index: int) -> Any:
    if not isinstance(operation, dict) or operation.get("op") not in _OPERATIONS:
        known = ", ".join(sorted(_OPERATIONS))
        raise bad_request(f"cannot read the JSON patch: operation {index} must be an object whose op is one of {known}")
    if not isinstance(operation.get("path"), str) or not isinstance(operation.get("from", ""), str):
        raise bad_request(f"cannot read the JSON patch: path and from of operation {index} must be texts")
    try:
        return jsonpatch.JsonPatch([operation])
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise bad_request(f"cannot read the JSON patch: {_said(error)}") from error


def _size(document: Any, pointer: str) -> int:
    return len(orjson.dumps(jsonpointer.resolve_pointer(document, pointer)))


def _too_large(why: str) -> StatusError:
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: {why}")


def _said(error: Exception) -> str:
    return str(error.args[0]) if error.args else str(error)


def _unprocessable(why: str) -> StatusError:
    # The API server says only the first part; the reason is worth having.
    return StatusError(422, "Invalid", f"the server rejected our request due to an error in our request: {why}")
