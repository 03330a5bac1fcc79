"""Label and field selectors of a list, watch or deletecollection as one test on entries."""

from collections.abc import Callable

from corral.apiserver.context import Context
from corral.apiserver.options import ListOptions
from corral.apiserver.rendering import Rendered
from corral.kinds.selectors import FieldSelector, LabelSelector
from corral.kinds.status import bad_request

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
        self.exact = fields.exact()
        """A field that has one value in everything that can match, if there is one."""
        self.name = fields.required("metadata.name") or ""
        """The only name that can match, if there is one."""
        self.matches: Matches | None = None
        if not (labels.everything and fields.everything):

            def matches(rendered: Rendered) -> bool:
                obj = rendered.obj
                return labels.matches(obj["metadata"].get("labels")) and fields.matches(obj)

            self.matches = matches
