"""Label and field selectors of a list, watch or deletecollection: where in the store to look, and a test on what is
found there."""

from collections.abc import Callable
from functools import lru_cache

from corral.apiserver.context import Context
from corral.apiserver.core import Core
from corral.apiserver.options import ListOptions
from corral.apiserver.rendering import Rendered, read
from corral.kinds.selectors import FieldSelector, LabelSelector, field_text
from corral.kinds.status import bad_request
from corral.store.protocol import Entry, Filing, Topic

_METADATA = frozenset({"metadata.name", "metadata.namespace"})

Matches = Callable[[Rendered], bool]


class Selection:
    """What a request selects: everything (`matches` is None), or what a test says."""

    def __init__(self, ctx: Context, options: ListOptions) -> None:
        labels = LabelSelector.parse(options.label_selector)
        fields = FieldSelector.parse(options.field_selector)
        allowed = _METADATA.union(ctx.kind.selectable_fields)
        for requirement in fields.fields:
            if requirement.path not in allowed:
                raise bad_request(
                    f'Unable to find "{ctx.kind.resource.api_version}, Resource={ctx.plural}" that match label '
                    f'selector "{options.label_selector}", field selector "{options.field_selector}": '
                    f"field label not supported: {requirement.path} (supported: {', '.join(sorted(allowed))})"
                )
        self._exact = fields.exact()
        self.name = fields.required("metadata.name") or ""
        """The only name that can match, if there is one."""
        self.matches: Matches | None = None
        if not (labels.everything and fields.everything):

            def matches(rendered: Rendered) -> bool:
                obj = rendered.obj
                return labels.matches(obj["metadata"].get("labels")) and fields.matches(obj)

            self.matches = matches

    def topic(self, core: Core, ctx: Context) -> Topic | None:
        """The topic of everything that can match, if a field must have one value."""
        exact = self._exact
        if exact is None or core.stored(ctx.kind) is not ctx.kind.resource:
            return None
        return Topic(_filing(exact.path), exact.value)


@lru_cache(maxsize=64)
def _filing(path: str) -> Filing:
    """Files entries by the field at `path`."""

    def value(entry: Entry) -> str:
        return field_text(read(entry), path)

    return value
