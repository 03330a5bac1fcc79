"""A pod that selects machines by labels goes to one of those."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from corral.kinds.selectors import NodeSelector, Requirement
from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Snapshot

_REASON = "node(s) didn't match Pod's node affinity/selector"


class NodeAffinity:
    """`spec.nodeSelector` and required `nodeAffinity` of the pod; both must hold."""

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        return affinity_matches(snapshot, pod.node_selector, pod.affinity)

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        return {_REASON: len(rows)}

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        machine = snapshot.machine(row)
        selected = all(machine.labels.get(key) == value for key, value in pod.node_selector)
        if selected and (pod.affinity is None or pod.affinity.matches(machine.labels, machine.name)):
            return []
        return [_REASON]


def affinity_matches(
    snapshot: Snapshot, node_selector: Iterable[tuple[str, str]], affinity: NodeSelector | None
) -> NDArray[np.bool_] | None:
    """Which rows fulfil both; None if nothing is asked for."""
    if not node_selector and affinity is None:
        return None
    mask = np.ones(len(snapshot.alive), dtype=np.bool_)
    for key, value in node_selector:
        mask &= snapshot.labels.matches(Requirement(key, "In", frozenset((value,))))
    if affinity is not None:
        chosen = np.zeros(len(snapshot.alive), dtype=np.bool_)
        for on_labels, on_fields in affinity.terms:
            chosen |= term_matches(snapshot, on_labels, on_fields)
        mask &= chosen
    return mask


def term_matches(
    snapshot: Snapshot, on_labels: Iterable[Requirement], on_fields: Iterable[Requirement]
) -> NDArray[np.bool_]:
    """Which rows fulfil every requirement of one term."""
    mask = np.ones(len(snapshot.alive), dtype=np.bool_)
    for requirement in on_labels:
        mask &= snapshot.labels.matches(requirement)
    for requirement in on_fields:
        mask &= _name_matches(snapshot, requirement)
    return mask


def _name_matches(snapshot: Snapshot, requirement: Requirement) -> NDArray[np.bool_]:
    """`matchFields`, whose only field is metadata.name."""
    named = np.zeros(len(snapshot.alive), dtype=np.bool_)
    for name in requirement.values:
        row = snapshot.row(name)
        if row is not None:
            named[row] = True
    return named if requirement.operator == "In" else ~named
