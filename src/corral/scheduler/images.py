"""Which images are on which machines. Pure.

For each image one whole number whose bits are the rows of the machines that have it: thousands of machines with the
same images take next to nothing. Scores are worked out when they are asked for and kept until one of the images asked
for is somewhere else, so that a machine that pulls an image disturbs nobody but the pods that want it.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from corral.kinds.types import Obj

# kube-scheduler's ImageLocality: less is nothing, more than this for each container is no better.
_LEAST: Final = 23 << 20
_MOST: Final = 1000 << 20
_KEPT = 256


def canonical(name: str) -> str:
    """The full name of an image, as agents report it: `nginx` is `docker.io/library/nginx:latest`."""
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def read_images(node: Obj) -> Sequence[Obj]:
    """`status.images` of a Node."""
    return (node.get("status") or {}).get("images") or ()


class Images:
    """The images of all rows."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self._changes: dict[str, int] = {}
        self._clock = 0
        self._of: dict[int, Sequence[Obj]] = {}
        self._kept: OrderedDict[tuple[tuple[str, ...], int], tuple[tuple[int, ...], NDArray[np.float64] | None]] = (
            OrderedDict()
        )

    def copy(self) -> "Images":
        """Another one with the same content."""
        other = Images()
        other._clock = self._clock
        for name in ("_rows", "_sizes", "_changes", "_of"):
            setattr(other, name, getattr(self, name).copy())
        return other

    def set(self, row: int, images: Sequence[Obj]) -> None:
        """The machine of `row` has these images (`names` and `sizeBytes`, as its Node says)."""
        before = self._of.get(row, ())
        if images == before:
            return
        self._of[row] = images
        if not images:
            del self._of[row]
        had, has = set(_names(before)), dict(_sized(images))
        for name in had - has.keys():
            self._flip(name, row)
            if not self._rows[name]:
                del self._rows[name], self._sizes[name]
        for name, size in has.items():
            if name not in had:
                self._flip(name, row)
            elif self._sizes[name] == size:
                continue
            else:
                self._note(name)
            self._sizes[name] = size

    def _flip(self, name: str, row: int) -> None:
        self._rows[name] = self._rows.get(name, 0) ^ 1 << row
        self._note(name)

    def _note(self, name: str) -> None:
        self._clock += 1
        self._changes[name] = self._clock

    def score(self, names: tuple[str, ...], containers: int, machines: int, rows: int) -> NDArray[np.float64] | None:
        """0 to 100 for each of `rows` rows, by how much of the images is there; None if that is nothing anywhere.

        An image counts by its size and by the share of the machines that have it, so that pods do not crowd onto the
        first machine that has it (kube-scheduler's ImageLocality).

        Args:
            names: of the images of all containers, full names.
            machines: how many there are.
        """
        stamp = (*(self._changes.get(name, 0) for name in names), machines, rows)
        key = names, containers
        known = self._kept.get(key)
        if known is None or known[0] != stamp:
            known = stamp, self._work_out(names, containers, machines, rows)
            self._kept[key] = known
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return known[1]

    def _work_out(self, names: Iterable[str], containers: int, machines: int, rows: int) -> NDArray[np.float64] | None:
        there = np.zeros(rows)
        for name in names:
            having = self._rows.get(name, 0)
            if having:
                share = having.bit_count() / machines
                bits = np.frombuffer(having.to_bytes((rows + 7) // 8, "little"), dtype=np.uint8)
                there += np.unpackbits(bits, count=rows, bitorder="little") * float(int(self._sizes[name] * share))
        most = _MOST * containers
        np.clip(there, _LEAST, most, out=there)
        scores = (there - _LEAST) * (100.0 / (most - _LEAST))
        return scores if scores.any() else None


def _names(images: Iterable[Obj]) -> Iterable[str]:
    return (name for image in images for name in image.get("names") or ())


def _sized(images: Iterable[Obj]) -> Iterable[tuple[str, int]]:
    return ((name, int(image.get("sizeBytes") or 0)) for image in images for name in image.get("names") or ())
