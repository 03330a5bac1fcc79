"""Strands little: a pod goes where what it asks for is shaped like what is left.

What is left of a machine is stranded when another resource has run out: nobody can use its memory once the cpu is
gone. If each pod takes cpu and memory in the proportion in which the machine still has them, both run out together.
Borg's scoring has that aim, too, and packs 3 to 5 % better than best fit (Verma et al., "Large-scale cluster management
at Google with Borg", EuroSys'15, section 3.2; how it scores is not published). The measure here is the angle between
what is asked for and what is left, both in parts of the machine. That is Tetris' alignment (Grandl et al.,
"Multi-resource packing for cluster schedulers", SIGCOMM'14) without the lengths: with them it draws pods to empty
machines and spreads.

The angle alone spreads pods that are small in a machine, and then large ones find no room. So the hybrid profile weighs
it against how full the machine gets, squared: to finish one counts, to begin to fill one hardly does. Linear, as best
fit counts it, the first pods of a kind fill machines side by side before any of another kind can join them.
"""

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.podclass import PodClass
from corral.scheduler.scores import BEST
from corral.scheduler.snapshot import Rows, Snapshot


class LeastStranded:
    """The cosine of the angle between what is asked for and what is left."""

    def score(self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]) -> NDArray[np.float64]:
        asked = pod.load * snapshot.scale[rows]
        # The product of a number in the plane and another's conjugate has their lengths' product and their angle.
        turned = _plane(asked) * _plane(asked + (1.0 - share)).conj()
        scores: NDArray[np.float64] = turned.real / np.abs(turned) * BEST
        return scores


class Fullest:
    """The fuller a machine gets, the better, and the more so the fuller it is: the mean of the squared shares."""

    def score(self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = np.abs(_plane(share)) ** 2 * (BEST / 2)
        return scores


def _plane(pairs: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Each row's cpu and memory as one number."""
    return pairs.view(np.complex128)[:, 0]
