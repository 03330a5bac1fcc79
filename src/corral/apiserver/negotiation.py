"""Which representation an answer takes: JSON or YAML, the object itself, a Table or only its metadata."""

from functools import lru_cache

import msgspec

from corral.kinds.status import StatusError

JSON_MEDIA = frozenset({"application/json", "application/*", "*/*", ""})
YAML_MEDIA = frozenset({"application/yaml", "text/yaml", "application/x-yaml"})
TABLE = "Table"
PARTIAL = "PartialObjectMetadata"
PARTIAL_LIST = "PartialObjectMetadataList"


class Format(msgspec.Struct, frozen=True):
    """One media range of an Accept header."""

    media: str = "json"
    """`json` or `yaml`."""
    convert: str = ""
    """The kind asked for with `as=`, or empty."""
    group: str = ""
    version: str = ""

    @property
    def plain(self) -> bool:
        """The object as it is, in JSON: the fast path."""
        return self.media == "json" and not self.convert

    @property
    def content_type(self) -> str:
        return "application/json" if self.media == "json" else "application/yaml"


PLAIN = Format()
_OBJECT = frozenset({"", TABLE, PARTIAL})
_LIST = frozenset({"", TABLE, PARTIAL_LIST})


def _quality(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 1.0


@lru_cache(maxsize=512)
def accepted(accept: str) -> tuple[Format, ...]:
    """What an Accept header allows that we can produce at all, best first."""
    ranges: list[tuple[float, Format]] = []
    for text in accept.split(","):
        media, *rest = (part.strip() for part in text.split(";"))
        parameters = dict(part.split("=", 1) for part in rest if "=" in part)
        media = media.lower()
        if media in JSON_MEDIA or media in YAML_MEDIA:
            form = Format(
                "yaml" if media in YAML_MEDIA else "json",
                parameters.get("as", ""),
                parameters.get("g", ""),
                parameters.get("v", ""),
            )
            ranges.append((_quality(parameters), form))
    ranges.sort(key=lambda pair: -pair[0])
    return tuple(form for quality, form in ranges if quality > 0)


@lru_cache(maxsize=1024)
def choose(accept: str, *, listing: bool) -> Format:
    """The representation of an object (or of a list or watch, if `listing`).

    Raises:
        StatusError: 406, nothing in `accept` can be produced.
    """
    known = _LIST if listing else _OBJECT
    for form in accepted(accept):
        if form.convert in known and (not form.convert or (form.group == "meta.k8s.io" and form.version == "v1")):
            return form
        if listing and form.convert == PARTIAL and form.version == "v1":
            return form
    raise not_acceptable()


def not_acceptable() -> StatusError:
    """406 with what would be acceptable."""
    return StatusError(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml, "
        "application/json;as=Table;v=v1;g=meta.k8s.io, application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    )
