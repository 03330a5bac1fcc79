"""The best rows of a changing array of scores, found without looking at all of them.

Rows stand in blocks, and of each block its highest score is known and how many rows have it. What changed costs its
blocks only, and a choice costs one look at the blocks: a row among the best is drawn by its number. Rows of a block
share their domain of one topology, so that a rule on domains leaves out whole blocks; any other rule is asked about the
row that was drawn, and another is drawn if it objects, which leaves every row that passes equally likely.
"""

import random
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.scores import NEVER

WIDTH = 64
"""Rows of a block."""
_DRAWS = 24


class Layout:
    """Which rows stand in which block.

    Args:
        cells: the number of each row's domain.
    """

    def __init__(self, cells: NDArray[np.int32]) -> None:
        sizes = np.bincount(cells)
        blocks = -(-sizes // WIDTH)
        order = np.argsort(cells, kind="stable")
        rank = np.arange(len(cells)) - np.repeat(sizes.cumsum() - sizes, sizes)
        places = np.repeat((blocks.cumsum() - blocks) * WIDTH, sizes) + rank
        slots = np.full(int(blocks.sum()) * WIDTH, len(cells), dtype=np.intp)
        slots[places] = order
        self.slots: NDArray[np.intp] = slots.reshape(-1, WIDTH)
        """Blocks x WIDTH: rows; where there is none, the number of rows."""
        self.blocks: NDArray[np.intp] = np.empty(len(cells), dtype=np.intp)
        """Each row's block."""
        self.blocks[order] = places // WIDTH
        self.domains: NDArray[np.intp] = np.repeat(np.arange(len(sizes)), blocks)
        """Each block's domain."""


class Peaks:
    """The highest scores of the blocks of a layout.

    `scores` has one element more than there are rows, the last of which is NEVER.
    """

    def __init__(self, layout: Layout, scores: NDArray[np.float64]) -> None:
        self._layout = layout
        self._best: NDArray[np.float64] = np.empty(len(layout.slots))
        self._counts: NDArray[np.intp] = np.empty(len(layout.slots), dtype=np.intp)
        self._look(scores, np.arange(len(layout.slots)))

    def update(self, scores: NDArray[np.float64], rows: NDArray[np.intp]) -> None:
        """The scores of `rows` have changed."""
        self._look(scores, self._layout.blocks.take(rows))

    def _look(self, scores: NDArray[np.float64], blocks: NDArray[np.intp]) -> None:
        values = scores.take(self._layout.slots.take(blocks, axis=0))
        best = np.maximum.reduce(values, axis=1)
        self._best[blocks] = best
        self._counts[blocks] = np.add.reduce(values == best[:, None], axis=1)

    def draw(
        self,
        scores: NDArray[np.float64],
        domains: NDArray[np.bool_] | None,
        accepts: Callable[[int], bool] | None,
        rng: random.Random,
    ) -> tuple[int | None, bool]:
        """One of the best rows, each as likely as the others, or None if no row is left; and whether that is certain:
        it is not if rows were drawn that `accepts` refused, and none that it accepts.

        Args:
            domains: which domains of the layout pass; None: all do.
        """
        best = self._best if domains is None else np.where(domains[self._layout.domains], self._best, NEVER)
        top = best[best.argmax()]
        if top == NEVER:
            return None, True
        blocks = (best == top).nonzero()[0]
        ends = self._counts[blocks].cumsum()
        for _ in range(_DRAWS):
            number = rng.randrange(int(ends[-1]))
            at = int(ends.searchsorted(number, side="right"))
            slots = self._layout.slots[blocks[at]]
            among = slots[scores[slots] == top]
            row = int(among[number - int(ends[at])])
            if accepts is None or accepts(row):
                return row, True
        return None, False
