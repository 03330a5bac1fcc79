"""`pattern` in a CRD's schema, matched in a time that nobody can stretch.

Kubernetes matches with Go's RE2, in linear time. Python's engine backtracks: `^(a+)*$` takes for ever on forty letters
and a blank, and everybody who may write such an object could stop the server. So the risky cases, repetitions within
repetitions and long texts, go to the RE2 that the CEL library carries. Without that library (`corral[cel]`) Python's
engine has to do for them, too.
"""

import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, Final

from corral.base.errors import CorralError
from corral.kinds.schema import cel

LONG: Final = 1_024
"""Characters of a text from which on repetitions side by side are slow, too."""
_REPEATS: Final = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
_FEW: Final = 8
"""A repetition of at most so many is not counted as one."""


def matcher(pattern: str, translated: str) -> Callable[[str], bool]:
    """Whether a text contains a match of `pattern` (in Go's dialect), of which `translated` is Python's spelling.

    Raises:
        re.error: Python cannot read it.
    """
    quick = re.compile(translated)
    risky = nests(translated)

    def matches(text: str) -> bool:
        if risky or len(text) > LONG:
            found = _linear(pattern, text)
            if found is not None:
                return found
        return quick.search(text) is not None

    return matches


def nests(pattern: str) -> bool:
    """Whether a Python pattern has repetitions within repetitions, or refers back."""
    return _nests(_parser.parse(pattern), repeated=False)


def _nests(items: Iterable[Any], *, repeated: bool) -> bool:
    for operator, argument in items:
        many = operator in _REPEATS and argument[1] > _FEW
        if (many and repeated) or operator is _constants.GROUPREF:
            return True
        if any(_nests(part, repeated=repeated or many) for part in _parts(argument)):
            return True
    return False


def _parts(argument: Any) -> Iterable[Any]:
    """The patterns within an operator's argument, however it holds them."""
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from _parts(part)


@lru_cache(maxsize=1_024)
def _program(pattern: str) -> Any:
    if not cel.available():
        return None
    try:
        # A JSON text is a CEL text.
        return cel.compiled(f"self.matches({json.dumps(pattern)})")
    except CorralError:
        return None


def _linear(pattern: str, text: str) -> bool | None:
    """What RE2 says; None if it is not here or cannot read the pattern."""
    program = _program(pattern)
    if program is None:
        return None
    found = program.eval(data={"self": text}).value()
    return found if isinstance(found, bool) else None
