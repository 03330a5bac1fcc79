"""A pod goes where its claims' volumes are, can be given to it, or can be made; and where nobody else has them."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from corral.kinds.selectors import NodeSelector
from corral.kinds.storage import HOSTNAME, Claim, Volume
from corral.scheduler.filters.node_affinity import affinity_matches
from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.volumes import CONFLICT, GONE, NO_ZONE, NONE_FOUND, in_zone, zones_of

_TAKEN = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
)
_TOO_MANY = "node(s) exceed max volume count"


class VolumeBinding:
    """kube-scheduler's VolumeBinding and VolumeZone: only a change of machines, claims, volumes or classes of storage
    turns it over."""

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        if not pod.claims:
            return None
        if snapshot.volumes.obstacle(pod.claims):
            return np.zeros(len(snapshot.alive), dtype=np.bool_)
        mask = np.ones(len(snapshot.alive), dtype=np.bool_)
        for _, allowed in _rules(snapshot, pod):
            mask &= allowed
        return mask

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        obstacle = snapshot.volumes.obstacle(pod.claims)
        if obstacle:
            return {obstacle: len(rows)}
        found: dict[str, int] = {}
        undecided = np.ones(len(snapshot.alive), dtype=np.bool_)
        for reason, allowed in _rules(snapshot, pod):
            refused = ~allowed & undecided if reason == NO_ZONE else ~allowed
            undecided &= allowed
            found[reason] = int(refused[rows].sum())
        return {reason: count for reason, count in found.items() if count}

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        if not pod.claims:
            return []
        obstacle = snapshot.volumes.obstacle(pod.claims)
        machine = snapshot.machine(row)
        return [obstacle] if obstacle else snapshot.volumes.judge(pod.claims, machine.labels, machine.name)[0]


def _rules(snapshot: Snapshot, pod: PodClass) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each reason to refuse, and the rows that it does not refuse."""
    bound, waiting = snapshot.volumes.split(pod.claims)
    known = [(claim, snapshot.volumes.volumes.get(claim.volume)) for claim in bound]
    volumes = [volume for _, volume in known if volume is not None]
    for volume in volumes:
        if volume.affinity is not None:
            mask = np.zeros(len(snapshot.alive), dtype=np.bool_)
            mask[_rows_of(snapshot, volume)] = True
            yield CONFLICT, mask
    if waiting:
        yield NONE_FOUND, _bindable(snapshot, waiting)
    if len(volumes) < len(known):
        yield GONE, np.zeros(len(snapshot.alive), dtype=np.bool_)
    zoned = [volume for volume in volumes if zones_of(volume)]
    if zoned:
        yield NO_ZONE, _in_zones(snapshot, zoned)


def _matching(snapshot: Snapshot, selector: NodeSelector) -> NDArray[np.bool_]:
    mask = affinity_matches(snapshot, (), selector)
    assert mask is not None
    return mask


def _in_zones(snapshot: Snapshot, volumes: Sequence[Volume]) -> NDArray[np.bool_]:
    mask = np.zeros(len(snapshot.alive), dtype=np.bool_)
    for row in snapshot.rows():
        labels = snapshot.machine(row).labels
        mask[row] = all(in_zone(volume, labels) for volume in volumes)
    return mask


def _bindable(snapshot: Snapshot, waiting: Sequence[Claim]) -> NDArray[np.bool_]:
    """The rows where each of the claims, smallest first, finds a volume of its own or can have one made."""
    mask = snapshot.alive.copy()
    given: dict[str, NDArray[np.intp]] = {}
    for claim in waiting:
        selected = snapshot.volumes.selected(claim)
        if selected:
            mask &= _only(snapshot, selected) & _makeable(snapshot, claim)
        else:
            # Who else of the pod needs one decides whether it matters which volume a machine would give.
            supplied = _supplied(snapshot, claim, given) if len(waiting) > 1 else _reached(snapshot, claim)
            mask &= supplied | _makeable(snapshot, claim)
    return mask


def _only(snapshot: Snapshot, node: str) -> NDArray[np.bool_]:
    mask = np.zeros(len(snapshot.alive), dtype=np.bool_)
    row = snapshot.row(node)
    if row is not None:
        mask[row] = True
    return mask


def _makeable(snapshot: Snapshot, claim: Claim) -> NDArray[np.bool_]:
    """Where a volume can be made for the claim."""
    storage_class = snapshot.volumes.classes.get(claim.storage_class)
    if storage_class is None or not storage_class.provisions:
        return np.zeros(len(snapshot.alive), dtype=np.bool_)
    if storage_class.topologies is None:
        return np.ones(len(snapshot.alive), dtype=np.bool_)
    return _matching(snapshot, storage_class.topologies)


def _reached(snapshot: Snapshot, claim: Claim) -> NDArray[np.bool_]:
    """Where some volume can be given to the claim."""
    own = snapshot.volumes.reserved(claim)
    supplied = np.zeros(len(snapshot.alive), dtype=np.bool_)
    for volume in snapshot.volumes.candidates(claim) if own is None else (own,):
        supplied[_rows_of(snapshot, volume)] = True
        if volume.affinity is None:
            break
    return supplied


def _supplied(snapshot: Snapshot, claim: Claim, given: dict[str, NDArray[np.intp]]) -> NDArray[np.bool_]:
    """Where a volume can be given to the claim.

    Args:
        given: by volume, the rows where another claim of the pod has it; added to.
    """
    own = snapshot.volumes.reserved(claim)
    supplied = np.zeros(len(snapshot.alive), dtype=np.bool_)
    if own is not None:
        supplied[_rows_of(snapshot, own)] = True
        return supplied
    missing = len(supplied)
    for volume in snapshot.volumes.candidates(claim):
        rows = _rows_of(snapshot, volume)
        rows = rows[~supplied[rows]]
        if volume.name in given:
            rows = np.setdiff1d(rows, given[volume.name], assume_unique=True)
        if not len(rows):
            continue
        supplied[rows] = True
        given[volume.name] = np.union1d(given[volume.name], rows) if volume.name in given else rows
        missing -= len(rows)
        if not missing:
            break
    return supplied


def _rows_of(snapshot: Snapshot, volume: Volume) -> NDArray[np.intp]:
    """The rows that a volume can be used from."""
    if volume.host:
        return snapshot.labels.rows(HOSTNAME, volume.host)
    if volume.affinity is None:
        return np.arange(len(snapshot.alive))
    return np.flatnonzero(_matching(snapshot, volume.affinity))


class VolumeUse:
    """kube-scheduler's VolumeRestrictions and NodeVolumeLimits: pods that are placed turn it over.

    A claim that only one pod may use (ReadWriteOncePod) is used by no other, and a machine has no more volumes of a CSI
    driver than its CSINode allows.
    """

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        if not pod.claims:
            return None
        if self._is_taken(snapshot, pod):
            return np.zeros(len(snapshot.alive), dtype=np.bool_)
        if not snapshot.volumes.limits:
            return None
        mask = np.ones(len(snapshot.alive), dtype=np.bool_)
        for node in snapshot.volumes.limits:
            row = snapshot.row(node)
            if row is not None:
                mask[row] = not _is_beyond(snapshot, pod, node)
        return mask

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        return {_TAKEN if self._is_taken(snapshot, pod) else _TOO_MANY: len(rows)}

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        if self._is_taken(snapshot, pod):
            return [_TAKEN]
        return [_TOO_MANY] if pod.claims and _is_beyond(snapshot, pod, snapshot.machine(row).name) else []

    def _is_taken(self, snapshot: Snapshot, pod: PodClass) -> bool:
        claims = (snapshot.volumes.claims.get(use.key) for use in pod.claims)
        return any(
            claim is not None and snapshot.volumes.wants_alone(claim) and snapshot.volumes.users(claim.key)
            for claim in claims
        )


def _is_beyond(snapshot: Snapshot, pod: PodClass, node: str) -> bool:
    """Whether the pod's volumes are too many for the machine, which has some already."""
    volumes = snapshot.volumes
    limits = volumes.limits.get(node)
    if not limits:
        return False
    wanted = {attachment for use in pod.claims if (attachment := volumes.attachment(use.key)) is not None}
    there = {attachment for key in volumes.used_on(node) if (attachment := volumes.attachment(key)) is not None}
    for driver in {driver for driver, _ in wanted - there}:
        count = sum(attached == driver for attached, _ in wanted | there)
        if driver in limits and count > limits[driver]:
            return True
    return False
