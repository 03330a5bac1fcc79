"""Strands little: a pod goes where what it asks for is shaped like what is left.

What is left of a machine is stranded when another resource has run out: nobody can use its memory once the cpu is
gone. If each pod takes cpu and memory in the proportion in which the machine still has them, both run out together.
Borg's scoring has that aim, too, and packs 3 to 5 % better than best fit (Verma et al., "Large-scale cluster management
at Google with Borg", EuroSys'15, section 3.2; how it scores is not published). Matching a request against what is left
is the idea of Tetris' alignment (Grandl et al., "Multi-resource packing for cluster schedulers", SIGCOMM'14), whose
product of the two, however, draws pods to empty machines. Here only the proportions count, which makes the units of
resources irrelevant, too.
"""

import math

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.podclass import PodClass
from corral.scheduler.scores import BEST
from corral.scheduler.snapshot import Rows, Snapshot

_WORST = math.log(400)
"""A pod that takes cpu and memory in a proportion that differs this many times from the machine's is at the bottom."""


class LeastStranded:
    """The more alike the proportion of cpu to memory that is asked for and the one that is left, the better."""

    def score(self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]) -> NDArray[np.float64]:
        left = np.maximum(snapshot.allocatable[rows, :2] - snapshot.load[rows], pod.load)
        distance = np.abs(np.log(left[:, 0] * (pod.load[1] / pod.load[0]) / left[:, 1]))
        scores: NDArray[np.float64] = BEST - np.minimum(distance, _WORST) * (BEST / _WORST)
        return scores
