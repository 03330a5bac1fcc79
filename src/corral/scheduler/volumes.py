"""The storage that pods ask for: claims, volumes and classes as events tell them, and what goes together where. Pure.

A claim is bound to a volume, or waits for its first pod (WaitForFirstConsumer): then the machine of that pod decides
which volume it gets, or where one is made. What was decided for a pod is assumed here until the API shows it, as the
room that a pod takes is assumed in the snapshot. The rules are those of kube-scheduler's VolumeBinding, VolumeZone and
VolumeRestrictions; `judge` is one machine's, `filters/volumes.py` judges all machines at once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from corral.kinds.storage import Claim, StorageClass, Volume, by_size, holds, suits
from corral.kinds.types import Key, Obj

UNBOUND: Final = "pod has unbound immediate PersistentVolumeClaims"
CONFLICT: Final = "node(s) didn't match PersistentVolume's node affinity"
GONE: Final = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
NONE_FOUND: Final = "node(s) didn't find available persistent volumes to bind"
NO_ZONE: Final = "node(s) had no available volume zone"

_ZONES: Final = (
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
)
_ONE_POD: Final = "ReadWriteOncePod"

_K = TypeVar("_K")
_V = TypeVar("_V")


class ClaimUse(NamedTuple):
    """A claim that a pod uses; `pod` and `uid` are the pod's if the claim is made for it (`ephemeral`), else empty."""

    key: Key
    pod: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Binding:
    """What must be true of a pod's claims before the pod can be bound to a machine."""

    volumes: tuple[tuple[str, Key], ...] = ()
    """Volumes and the claims that get them."""
    provisions: tuple[Key, ...] = ()
    """Claims for which a volume is made for the machine."""

    def __bool__(self) -> bool:
        return bool(self.volumes or self.provisions)


class Volumes:
    """What is known of the cell's storage, and what is assumed of it for pods that are placed."""

    def __init__(self) -> None:
        self.version = 0
        """Counts changes of what machines are judged by, for pods with claims."""
        self.claims: dict[Key, Claim] = {}
        self.volumes: dict[str, Volume] = {}
        self.classes: dict[str, StorageClass] = {}
        self.limits: dict[str, Mapping[str, int]] = {}
        """By machine, how many volumes of each CSI driver it can use."""
        self._by_class: dict[str, dict[str, Volume]] = {}
        """Volumes that refer to no claim."""
        self._referring: dict[Key, dict[str, Volume]] = {}
        """Volumes by the claim that they refer to."""
        self._given: dict[str, tuple[Key, set[Key]]] = {}
        """Volumes assumed to belong to a claim, and the pods for whose sake."""
        self._selected: dict[Key, tuple[str, set[Key]]] = {}
        """Claims assumed to wait for a volume on a machine, and the pods for whose sake."""
        self._suitable: dict[tuple[object, ...], list[Volume]] = {}
        """Volumes that refer to no claim by what a claim asks for, best first."""
        self._bindings: dict[Key, Binding] = {}
        self._users: dict[Key, Counter[str]] = {}
        """How many placed pods on which machine use a claim."""
        self._used_on: dict[str, Counter[Key]] = {}

    def copy(self) -> "Volumes":
        """Another one with the same content."""
        other = Volumes()
        other.version = self.version
        for name in ("claims", "volumes", "classes", "limits", "_bindings"):
            setattr(other, name, getattr(self, name).copy())
        for name in ("_by_class", "_referring", "_users", "_used_on"):
            setattr(other, name, {key: value.copy() for key, value in getattr(self, name).items()})
        for name in ("_given", "_selected"):
            setattr(other, name, {key: (what, pods.copy()) for key, (what, pods) in getattr(self, name).items()})
        return other

    # What the API says

    def put_claim(self, key: Key, claim: Claim | None) -> bool:
        """A claim is as it is now (None: gone); whether that is news."""
        if claim is not None and (claim.bound or claim.selected_node):
            self._selected.pop(key, None)
        return self._put(self.claims, key, claim)

    def put_volume(self, name: str, volume: Volume | None) -> bool:
        """A volume is as it is now (None: gone); whether that is news."""
        old = self.volumes.get(name)
        if old is not None:
            self._index(old).pop(name, None)
        if volume is not None:
            self._index(volume)[name] = volume
        if volume is None or volume.reference is not None:
            self._given.pop(name, None)
        self._suitable.clear()
        return self._put(self.volumes, name, volume)

    def put_class(self, name: str, storage_class: StorageClass | None) -> bool:
        """A storage class is as it is now (None: gone); whether that is news."""
        return self._put(self.classes, name, storage_class)

    def put_limits(self, node: str, limits: Mapping[str, int] | None) -> bool:
        """A machine can use so many volumes by driver (None: that is not known); whether that is news."""
        return self._put(self.limits, node, limits or None)

    def _put(self, table: dict[_K, _V], key: _K, value: _V | None) -> bool:
        if table.get(key) == value:
            return False
        if value is None:
            del table[key]
        else:
            table[key] = value
        self.version += 1
        return True

    def _index(self, volume: Volume) -> dict[str, Volume]:
        if volume.reference is None:
            return self._by_class.setdefault(volume.storage_class, {})
        return self._referring.setdefault(volume.reference.key, {})

    # What pods make of it

    def place(self, pod: Key, uses: Sequence[ClaimUse], node: str, labels: Mapping[str, str]) -> None:
        """A pod with these claims is on `node`: what it needs there is assumed to be so."""
        for use in uses:
            self._users.setdefault(use.key, Counter())[node] += 1
            self._used_on.setdefault(node, Counter())[use.key] += 1
        if self.obstacle(uses):
            return
        reasons, binding = self.judge(uses, labels, node)
        if reasons or not binding:
            return
        self._bindings[pod] = binding
        for name, claim in binding.volumes:
            self._given.setdefault(name, (claim, set()))[1].add(pod)
        for claim in binding.provisions:
            self._selected.setdefault(claim, (node, set()))[1].add(pod)
        self.version += 1

    def remove(self, pod: Key, uses: Sequence[ClaimUse], node: str) -> None:
        """The pod is not there any more."""
        for use in uses:
            _count_down(self._users, use.key, node)
            _count_down(self._used_on, node, use.key)
        binding = self._bindings.pop(pod, None)
        if binding is None:
            return
        for name, _ in binding.volumes:
            _let_go(self._given, name, pod)
        for claim in binding.provisions:
            _let_go(self._selected, claim, pod)
        self.version += 1

    def binding(self, pod: Key) -> Binding:
        """What is assumed for a placed pod."""
        return self._bindings.get(pod, Binding())

    def users(self, claim: Key) -> int:
        """How many placed pods use a claim."""
        return sum(self._users.get(claim, Counter()).values())

    def used_on(self, node: str) -> Iterable[Key]:
        """The claims that pods on a machine use."""
        return self._used_on.get(node, Counter())

    # Which machines will do

    def obstacle(self, uses: Sequence[ClaimUse]) -> str:
        """Why a pod with these claims can go nowhere, whatever the machines; empty if it can."""
        for use in uses:
            claim = self.claims.get(use.key)
            name = f'persistentvolumeclaim "{use.key.name}"'
            if claim is None:
                waits = "waiting for ephemeral volume controller to create the "
                return f"{waits}{name}" if use.uid else f"{name} not found"
            if use.uid and claim.owner != use.uid:
                pod = Key(use.key.namespace, use.pod)
                return f"PVC {use.key} was not created for pod {pod} (pod is not owner)"
            if claim.lost:
                return f'{name} bound to non-existent persistentvolume "{claim.volume}"'
            if claim.deleting:
                return f"{name} is being deleted"
        claims = (self.claims[use.key] for use in uses)
        return UNBOUND if any(not claim.bound and not self.is_delayed(claim) for claim in claims) else ""

    def is_delayed(self, claim: Claim) -> bool:
        """Whether an unbound claim waits for its first pod to be placed."""
        storage_class = self.classes.get(claim.storage_class)
        return not claim.volume and storage_class is not None and storage_class.delayed

    def split(self, uses: Sequence[ClaimUse]) -> tuple[list[Claim], list[Claim]]:
        """The bound claims, and those to bind, the smallest first; there is no `obstacle`."""
        claims = [self.claims[key] for key in dict.fromkeys(use.key for use in uses)]
        waiting = sorted((claim for claim in claims if not claim.bound), key=lambda claim: (claim.size, claim.key))
        return [claim for claim in claims if claim.bound], waiting

    def selected(self, claim: Claim) -> str:
        """The machine for which a volume is being made for the claim; empty if none was chosen."""
        return claim.selected_node or self._selected.get(claim.key, ("", set()))[0]

    def reserved(self, claim: Claim) -> Volume | None:
        """The volume that refers to the claim, or is assumed to."""
        found = [volume for volume in self._referring.get(claim.key, {}).values() if volume.is_for(claim)]
        found += [self.volumes[name] for name, (key, _) in self._given.items() if key == claim.key]
        return min((volume for volume in found if holds(volume, claim)), key=by_size, default=None)

    def candidates(self, claim: Claim) -> list[Volume]:
        """The volumes that could be given to the claim, best first."""
        traits = claim.storage_class, claim.size, claim.modes, claim.block, claim.selector
        suitable = self._suitable.get(traits)
        if suitable is None:
            there = self._by_class.get(claim.storage_class, {}).values()
            suitable = self._suitable[traits] = sorted((one for one in there if suits(one, claim)), key=by_size)
        return [one for one in suitable if one.name not in self._given]

    def judge(self, uses: Sequence[ClaimUse], labels: Mapping[str, str], node: str) -> tuple[list[str], Binding]:
        """Why the machine `node` cannot be used (nothing if it can), and what would be bound; there is no
        `obstacle`."""
        bound, waiting = self.split(uses)
        volumes = [self.volumes.get(claim.volume) for claim in bound]
        reasons = []
        if any(volume is not None and not volume.reaches(labels, node) for volume in volumes):
            reasons.append(CONFLICT)
        binding = self._choose(waiting, labels, node)
        if binding is None:
            reasons.append(NONE_FOUND)
        if None in volumes:
            reasons.append(GONE)
        if not reasons and not all(in_zone(volume, labels) for volume in volumes if volume is not None):
            reasons.append(NO_ZONE)
        return reasons, binding or Binding()

    def _choose(self, waiting: Sequence[Claim], labels: Mapping[str, str], node: str) -> Binding | None:
        given: dict[str, Key] = {}
        provisions: list[Key] = []
        for claim in waiting:
            selected = self.selected(claim)
            if selected and selected != node:
                return None
            found = None if selected else self._best(claim, given, labels, node)
            if found is not None:
                given[found.name] = claim.key
            elif self._can_be_made(claim, labels, node):
                provisions.append(claim.key)
            else:
                return None
        return Binding(tuple(given.items()), tuple(provisions))

    def _best(self, claim: Claim, given: Mapping[str, Key], labels: Mapping[str, str], node: str) -> Volume | None:
        own = self.reserved(claim)
        if own is not None:
            return own if own.reaches(labels, node) else None
        there = (one for one in self.candidates(claim) if one.name not in given)
        return next((one for one in there if one.reaches(labels, node)), None)

    def _can_be_made(self, claim: Claim, labels: Mapping[str, str], node: str) -> bool:
        storage_class = self.classes.get(claim.storage_class)
        if storage_class is None or not storage_class.provisions:
            return False
        return storage_class.topologies is None or storage_class.topologies.matches(labels, node)

    def wants_alone(self, claim: Claim) -> bool:
        """Whether only one pod at a time may use the claim."""
        return _ONE_POD in claim.modes

    def attachment(self, key: Key) -> tuple[str, str] | None:
        """The CSI driver of a claim's volume and what tells the volume from others; None for other sources."""
        claim = self.claims.get(key)
        if claim is None:
            return None
        volume = self.volumes.get(claim.volume)
        if volume is not None:
            return (volume.driver, volume.handle) if volume.driver else None
        storage_class = self.classes.get(claim.storage_class)
        return (storage_class.provisioner, str(key)) if storage_class is not None and not claim.volume else None


def zones_of(volume: Volume) -> dict[str, frozenset[str]]:
    """The zones and regions that a volume's labels confine it to, by label."""
    return {key: frozenset(value.split("__")) for key, value in volume.labels if key in _ZONES}


def in_zone(volume: Volume, labels: Mapping[str, str]) -> bool:
    """Whether a machine is where the volume's labels say it is; machines without zones are everywhere."""
    zones = zones_of(volume)
    if not zones or not any(key in labels for key in _ZONES):
        return True
    return all(labels.get(key) in allowed for key, allowed in zones.items())


def read_limits(csi_node: Obj) -> dict[str, int]:
    """How many volumes of each driver a CSINode says the machine can use."""
    drivers = (csi_node.get("spec") or {}).get("drivers") or ()
    counts = ((driver["name"], (driver.get("allocatable") or {}).get("count")) for driver in drivers)
    return {name: count for name, count in counts if count is not None}


def _count_down(counters: dict[_K, Counter[_V]], key: _K, item: _V) -> None:
    counter = counters[key]
    counter[item] -= 1
    if not counter[item]:
        del counter[item]
    if not counter:
        del counters[key]


def _let_go(table: dict[_K, tuple[_V, set[Key]]], key: _K, pod: Key) -> None:
    held = table.get(key)
    if held is not None:
        held[1].discard(pod)
        if not held[1]:
            del table[key]
