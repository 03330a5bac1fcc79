"""Rules of one organisation, for Corral's scheduler: machines of a team, cheap machines, short jobs first."""

import numpy as np
from numpy.typing import NDArray

from corral.kinds.selectors import Requirement
from corral.scheduler.plugins import FilterPlugin, ScorePlugin
from corral.scheduler.podclass import PodClass
from corral.scheduler.profile import Profile, Waiting
from corral.scheduler.snapshot import Rows, Snapshot

OWNER = "example.com/reserved-for"
TEAM = "example.com/team"
PRICE = "example.com/price-per-hour"
SECONDS = "example.com/expected-seconds"


class Reserved(FilterPlugin):
    """A machine with the label OWNER takes only pods whose label TEAM has the same value."""

    reason = "node(s) were reserved for another team"

    def fits(self, snapshot: Snapshot, pod: PodClass, rows: Rows) -> NDArray[np.bool_]:
        team = pod.labels.get(TEAM, "")
        anybody = snapshot.labels.matches(Requirement(OWNER, "DoesNotExist"))
        ours = snapshot.labels.matches(Requirement(OWNER, "In", frozenset((team,))))
        return (anybody | ours)[rows]

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        return [f"node(s) were reserved for the team {snapshot.machine(row).labels[OWNER]}"]


class Cheap(ScorePlugin):
    """The less a machine costs by its label PRICE, the better; one without the label costs nothing."""

    weight = 2.0

    def score(
        self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        prices = snapshot.labels.numbers(PRICE, missing=0.0)
        dearest = prices.max()
        return 100.0 * (1.0 - prices[rows] / dearest) if dearest > 0 else None


def shortest_first(pod: Waiting) -> tuple[float, float]:
    """Priorities first, then the shortest job by the label SECONDS; one without the label is as short as can be."""
    return -pod.priority, float(pod.pod_class.labels.get(SECONDS, "0"))


THRIFTY = Profile("thrifty", rows=((Cheap(), 1.0),), row_filters=(*Profile.row_filters, Reserved()))
"""For pods with `schedulerName: thrifty`: price decides alone."""
