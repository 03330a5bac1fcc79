"""What a verb is given and what it gives back.

Both fronts (HTTP and in-process) make a `Call`; the server resolves it to a `Context`; a verb answers with a `Reply`
or, for watches, with a `Watching` (watching.py). Structs instead of dataclasses, because one of each is made per
request.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from corral.apiserver.auth.api import User
from corral.apiserver.negotiation import Format
from corral.kinds.kind import Kind

JSON = "application/json"
YAML = "application/yaml"

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Call(msgspec.Struct, frozen=True, gc=False):
    """One request, in HTTP's terms, with its sender known."""

    method: str
    path: str
    user: User
    query: Mapping[str, str] = {}
    body: bytes = b""
    content_type: str = JSON
    accept: str = JSON
    user_agent: str = ""
    if_none_match: str = ""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """One answer; `headers` are those beyond content type and length."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Context(msgspec.Struct, frozen=True):
    """A call on a resource, resolved: which kind, which object, which verb, and how to answer."""

    call: Call
    verb: str
    kind: Kind
    namespace: str
    name: str
    subresource: str
    format: Format

    @property
    def group(self) -> str:
        return self.kind.resource.group

    @property
    def plural(self) -> str:
        return self.kind.resource.plural

    @property
    def query(self) -> Mapping[str, str]:
        return self.call.query

    @property
    def user(self) -> User:
        return self.call.user
