"""The custom kinds that come with Corral, one CustomResourceDefinition a file.

Each file is named for its definition and carries the annotation `corral.dev/bundle` with a whole number, which rises
with every change of the file: a cell that has that number already need not parse it.
"""

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

import yaml

from corral.kinds.types import Obj

ANNOTATION = "corral.dev/bundle"
_NUMBER = re.compile(rf'{re.escape(ANNOTATION)}: "(\d+)"')


class Bundled(NamedTuple):
    """One definition: its name, its number and its text, which takes a few milliseconds to parse."""

    name: str
    number: int
    text: str

    def parse(self) -> Obj:
        """The definition; a new one at each call."""
        obj: Obj = yaml.load(self.text, yaml.CSafeLoader)
        return obj


def bundled() -> Iterator[Bundled]:
    """All definitions, by name."""
    for file in sorted(files(__name__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            text = file.read_text("utf-8")
            found = _NUMBER.search(text)
            if found is None:
                raise ValueError(f'{file.name} needs an annotation {ANNOTATION}: "1" (or more)')
            yield Bundled(file.name.removesuffix(".yaml"), int(found[1]), text)
