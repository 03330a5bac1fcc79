"""A pod goes where the pods are that it seeks, and where neither it nor those there object to the other."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.filters import Domains, all_of
from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.ties import DomainCounts, Tie

_NOT_ATTRACTED = "node(s) didn't match pod affinity rules"
_REPELLED = "node(s) didn't match pod anti-affinity rules"
_REPELLED_BY_OTHERS = "node(s) didn't satisfy existing pods anti-affinity rules"


class PodAffinity:
    """Required `podAffinity` and `podAntiAffinity` of the pod, and `podAntiAffinity` of pods that are placed."""

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        return all_of(self.domains(snapshot, pod))

    def domains(self, snapshot: Snapshot, pod: PodClass) -> Iterator[Domains]:
        return (allowed for _, allowed in _rules(snapshot, pod))

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        reasons: dict[str, int] = {}
        for reason, allowed in _rules(snapshot, pod):
            passing = allowed.rows[rows]
            reasons[reason] = reasons.get(reason, 0) + int((~passing).sum())
            rows = rows[passing]
        return {reason: count for reason, count in reasons.items() if count}

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        rules = _rules(snapshot, pod)
        return next(([reason] for reason, allowed in rules if not allowed.passes[allowed.cells[row]]), [])


def _rules(snapshot: Snapshot, pod: PodClass) -> Iterator[tuple[str, Domains]]:
    """Each reason to refuse, and the domains that it does not refuse; in the order of kube-scheduler's checks."""
    peers = pod.peers
    for domains in where_attracted(snapshot, pod):
        yield _NOT_ATTRACTED, domains
    for tie in peers.repelled:
        if tie.chosen:
            yield _REPELLED, _without(snapshot, tie, tie.chosen)
    for tie in snapshot.ties.choosing(peers):
        if tie.repels:
            yield _REPELLED_BY_OTHERS, _without(snapshot, tie, tie.repels)


def where_attracted(snapshot: Snapshot, pod: PodClass) -> Iterator[Domains]:
    """In every topology a chosen pod must be in the row's domain. The first of a group that seeks its own kind only
    needs a machine that is in a domain at all."""
    ties = pod.peers.attracted
    sums = [domain_sums(snapshot, tie, tie.chosen) for tie in ties]
    first = bool(ties) and not any(of_tie.any() for of_tie in sums) and snapshot.ties.chooses(ties[0], pod.peers)
    for tie, of_tie in zip(ties, sums, strict=True):
        passes: NDArray[np.bool_] = np.arange(len(of_tie)) > 0 if first else of_tie > 0
        yield Domains(tie.key, tie.chosen.cells, passes)


def _without(snapshot: Snapshot, tie: Tie, counts: DomainCounts) -> Domains:
    """The domains in which nothing is counted."""
    empty: NDArray[np.bool_] = domain_sums(snapshot, tie, counts) == 0
    return Domains(tie.key, counts.cells, empty)


def domain_sums(snapshot: Snapshot, tie: Tie, counts: DomainCounts) -> NDArray[np.int64]:
    """What `counts` of `tie` come to in each domain."""
    return counts.refresh(snapshot.shape, snapshot.labels, tie.key, lambda: snapshot.alive)
