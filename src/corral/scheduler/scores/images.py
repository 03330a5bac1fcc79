"""Image locality: a machine that has the pod's images need not pull them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.filters import Domains
from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Snapshot


class ImageLocality:
    """kube-scheduler's plugin of that name; see `scheduler/images.py`."""

    def matters(self, snapshot: Snapshot, pod: PodClass, allowed: Sequence[Domains]) -> bool:
        return self.score(snapshot, pod, snapshot.alive) is not None

    def score(self, snapshot: Snapshot, pod: PodClass, total: NDArray[Any]) -> NDArray[np.float64] | None:
        if not pod.images:
            return None
        return snapshot.images.score(pod.images, pod.containers, len(snapshot), len(total))
