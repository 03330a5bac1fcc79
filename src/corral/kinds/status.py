"""`metav1.Status`: how the API refuses, as data and as an exception.

The server raises `StatusError`, the wire carries its `status()`, and the client raises it again, so that one `except`
serves both sides. Reasons and codes are those of apimachinery's `api/errors`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from corral.base.errors import CorralError
from corral.kinds.types import Obj


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that is wrong: `reason` is a `FieldValue...` word, `field` a path such as `spec.containers[0].name`."""

    reason: str
    message: str
    field: str = ""


class StatusError(CorralError):
    """An API call that was refused."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        group: str = "",
        kind: str = "",
        name: str = "",
        uid: str = "",
        causes: Sequence[Cause] = (),
        retry_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.group = group
        self.kind = kind
        self.name = name
        self.uid = uid
        self.causes = tuple(causes)
        self.retry_after = retry_after

    def status(self) -> Obj:
        """The `Status` object that says this on the wire."""
        details: dict[str, Any] = {}
        for field, value in (("name", self.name), ("group", self.group), ("kind", self.kind), ("uid", self.uid)):
            if value:
                details[field] = value
        if self.causes:
            details["causes"] = [
                {"reason": cause.reason, "message": cause.message, **({"field": cause.field} if cause.field else {})}
                for cause in self.causes
            ]
        if self.retry_after:
            details["retryAfterSeconds"] = self.retry_after
        status: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if details:
            status["details"] = details
        status["code"] = self.code
        return status

    @classmethod
    def from_status(cls, status: Obj) -> "StatusError":
        """The exception that a `Status` object off the wire stands for."""
        details = status.get("details") or {}
        return cls(
            int(status.get("code") or 500),
            status.get("reason") or "InternalError",
            status.get("message") or "unknown error",
            group=details.get("group") or "",
            kind=details.get("kind") or "",
            name=details.get("name") or "",
            uid=details.get("uid") or "",
            causes=[
                Cause(cause.get("reason") or "", cause.get("message") or "", cause.get("field") or "")
                for cause in details.get("causes") or ()
            ],
            retry_after=int(details.get("retryAfterSeconds") or 0),
        )


def _qualified(group: str, plural: str) -> str:
    return f"{plural}.{group}" if group else plural


def bad_request(message: str) -> StatusError:
    """400: the request itself makes no sense."""
    return StatusError(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> StatusError:
    """401: nobody knows who asks."""
    return StatusError(401, "Unauthorized", message)


def forbidden(group: str, plural: str, name: str, why: str) -> StatusError:
    """403: the asker is known and may not."""
    subject = f'{_qualified(group, plural)} "{name}"' if name else _qualified(group, plural)
    return StatusError(403, "Forbidden", f"{subject} is forbidden: {why}", group=group, kind=plural, name=name)


def not_found(group: str, plural: str, name: str) -> StatusError:
    """404: no such object."""
    return StatusError(
        404, "NotFound", f'{_qualified(group, plural)} "{name}" not found', group=group, kind=plural, name=name
    )


def path_not_found() -> StatusError:
    """404: no such resource or path."""
    return StatusError(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed(message: str = "the server does not allow this method on the requested resource") -> StatusError:
    """405: the resource has no such verb."""
    return StatusError(405, "MethodNotAllowed", message)


def already_exists(group: str, plural: str, name: str) -> StatusError:
    """409: create found the name taken."""
    message = f'{_qualified(group, plural)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, group=group, kind=plural, name=name)


def conflict(group: str, plural: str, name: str, why: str) -> StatusError:
    """409: somebody else changed the object first."""
    message = f'Operation cannot be fulfilled on {_qualified(group, plural)} "{name}": {why}'
    return StatusError(409, "Conflict", message, group=group, kind=plural, name=name)


def modified(group: str, plural: str, name: str) -> StatusError:
    """409 in the words that clients look for when an update carries a stale resourceVersion."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(group, plural, name, why)


def gone(message: str) -> StatusError:
    """410: the revision asked for was compacted; list again."""
    return StatusError(410, "Expired", message)


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> StatusError:
    """422: the object breaks its schema or its rules. `kind` is the Kind, not the plural."""
    said = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes]
    text = said[0] if len(said) == 1 else "[" + ", ".join(said) + "]"
    return StatusError(
        422,
        "Invalid",
        f'{_qualified(group, kind)} "{name}" is invalid: {text}',
        group=group,
        kind=kind,
        name=name,
        causes=causes,
    )


def too_large(limit: int) -> StatusError:
    """413: the body is larger than `limit` bytes."""
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def unsupported_media_type(message: str) -> StatusError:
    """415: the body's content type is not one that the verb takes."""
    return StatusError(415, "UnsupportedMediaType", message)


def too_many_requests(message: str, retry_after: int = 1) -> StatusError:
    """429: try again in `retry_after` seconds."""
    return StatusError(429, "TooManyRequests", message, retry_after=retry_after)


def internal(message: str) -> StatusError:
    """500: a defect or a broken part of ours."""
    return StatusError(500, "InternalError", f"Internal error occurred: {message}")


def unavailable(message: str) -> StatusError:
    """503: a part that is needed is not there just now."""
    return StatusError(503, "ServiceUnavailable", message)
