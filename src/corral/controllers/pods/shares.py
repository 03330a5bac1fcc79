"""Numbers that may be percentages. Pure."""

import math
from fractions import Fraction


def resolve(value: int | str, total: int, *, up: bool) -> int:
    """A count, or a percentage of `total` rounded up or down (Kubernetes' IntOrString).

    Raises:
        ValueError: a text that is no number.
    """
    if isinstance(value, int):
        return value
    text = value.strip()
    if not text.endswith("%"):
        return int(text)
    share = Fraction(int(text[:-1]) * total, 100)
    return math.ceil(share) if up else math.floor(share)
