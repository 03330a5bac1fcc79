"""What a look at a machine or a cell gives."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["needed", "wanted"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. Without something that is only `wanted`, less is possible, but it works."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    level: Level = "needed"
