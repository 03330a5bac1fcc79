"""Which strategy a built-in kind has."""

from corral.kinds.builtin.resources import Row
from corral.kinds.builtin.strategy import BuiltinStrategy


def strategy_of(row: Row) -> BuiltinStrategy:
    """The strategy of one row."""
    return BuiltinStrategy(
        namespaced=row.resource.namespaced,
        has_status="status" in row.subresources,
        counts_generation=row.generation,
    )
