"""What a pod is to other pods, read from its spec: whom it seeks, whom it avoids, among whom it spreads.

Terms are read as kube-scheduler reads them: `matchLabelKeys` and `mismatchLabelKeys` become requirements on the labels
of the pods chosen, a term without namespaces means the pod's own, and all required affinity terms together choose the
pods that count for each of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import orjson

from corral.kinds.podspec import priority
from corral.kinds.selectors import LabelSelector, NodeSelector, Requirement
from corral.kinds.taints import read_tolerations
from corral.kinds.types import Obj
from corral.scheduler.ties import Eligible, PeerSelector, Tie

# kube-scheduler's HardPodAffinityWeight: how strongly a placed pod's required affinity pulls those it wants.
_REQUIRED_PULL = 1
_REQUIRED, _PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


@dataclass(frozen=True, slots=True)
class SpreadConstraint:
    """One of `topologySpreadConstraints`."""

    tie: Tie
    max_skew: int
    min_domains: int
    includes_self: bool


@dataclass(frozen=True, eq=False)
class Peers:
    """What a pod is to others and they to it."""

    namespace: str
    labels: Mapping[str, str]
    terminating: bool
    """Such a pod still keeps others away, but spreading no longer counts it."""
    priority: int = 0
    """Who may push it out, and whom it may push out."""
    preempts: bool = True
    """Whether it pushes others out at all (`preemptionPolicy`)."""
    attracted: tuple[Tie, ...] = ()
    """Required affinity: a pod of each of these must be in the machine's domain."""
    repelled: tuple[Tie, ...] = ()
    """Required anti-affinity."""
    preferred: tuple[tuple[Tie, int], ...] = ()
    """Preferred affinity by weight; anti-affinity has negative weights."""
    pulls: tuple[tuple[Tie, int], ...] = ()
    """How strongly this pod, once placed, draws the pods it asks for."""
    spread: tuple[SpreadConstraint, ...] = ()
    """Constraints that say DoNotSchedule."""
    even: tuple[SpreadConstraint, ...] = ()
    """Constraints that say ScheduleAnyway."""

    @property
    def gains_by_others(self) -> bool:
        """Whether a pod placed somewhere can make room for this one."""
        return bool(self.attracted or self.spread)

    def on(self, ties: Mapping[Tie, Tie]) -> "Peers":
        """The same with other ties in the place of those here; itself if there are none."""
        if not (self.attracted or self.repelled or self.preferred or self.pulls or self.spread or self.even):
            return self
        return replace(
            self,
            attracted=tuple(ties[tie] for tie in self.attracted),
            repelled=tuple(ties[tie] for tie in self.repelled),
            preferred=tuple((ties[tie], weight) for tie, weight in self.preferred),
            pulls=tuple((ties[tie], weight) for tie, weight in self.pulls),
            spread=tuple(replace(constraint, tie=ties[constraint.tie]) for constraint in self.spread),
            even=tuple(replace(constraint, tie=ties[constraint.tie]) for constraint in self.even),
        )


ENDING = b"!"
"""At the end of the fingerprint of a pod that is terminating."""


class TieMaker(Protocol):
    """Gives the tie that counts for a term; see `Ties.tie`."""

    def __call__(self, selectors: tuple[PeerSelector, ...], key: str, eligible: Eligible | None = None) -> Tie:
        """The one tie with these properties."""


def peers_fingerprint(pod: Obj) -> bytes:
    """Equal for pods that are the same to others. Only what `read_peers` looks at goes in, apart from what
    `podclass.fingerprint` holds anyway."""
    spec, metadata = pod.get("spec") or {}, pod.get("metadata") or {}
    affinity = spec.get("affinity") or {}
    parts = [
        metadata.get("namespace"),
        metadata.get("labels"),
        spec.get("priority"),
        spec.get("preemptionPolicy"),
        affinity.get("podAffinity"),
        affinity.get("podAntiAffinity"),
        spec.get("topologySpreadConstraints"),
    ]
    mark = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return mark + ENDING if metadata.get("deletionTimestamp") else mark


def read_peers(pod: Obj, tie: TieMaker) -> Peers:
    """What `pod` is to others.

    Raises:
        StatusError: a selector makes no sense.
    """
    spec, metadata = pod.get("spec") or {}, pod.get("metadata") or {}
    affinity = spec.get("affinity") or {}
    seeks, avoids = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
    wanted = [_read_term(term, metadata) for term in seeks.get(_REQUIRED) or ()]
    unwanted = [_read_term(term, metadata) for term in avoids.get(_REQUIRED) or ()]
    together = tuple(dict.fromkeys(selector for selector, _ in wanted))
    weighed = tuple(
        (tie((selector,), key), sign * int(item.get("weight") or 0))
        for sign, terms in ((1, seeks), (-1, avoids))
        for item in terms.get(_PREFERRED) or ()
        for selector, key in [_read_term(item.get("podAffinityTerm") or {}, metadata)]
    )
    return Peers(
        namespace=metadata.get("namespace") or "",
        labels=metadata.get("labels") or {},
        terminating=bool(metadata.get("deletionTimestamp")),
        priority=priority(pod),
        preempts=spec.get("preemptionPolicy") != "Never",
        attracted=tuple(tie(together, key) for key in dict.fromkeys(key for _, key in wanted)),
        repelled=tuple(tie((selector,), key) for selector, key in dict.fromkeys(unwanted)),
        preferred=weighed,
        pulls=(*((tie((selector,), key), _REQUIRED_PULL) for selector, key in wanted), *weighed),
        spread=_read_spread(pod, "DoNotSchedule", tie),
        even=_read_spread(pod, "ScheduleAnyway", tie),
    )


def _read_term(term: Obj, metadata: Obj) -> tuple[PeerSelector, str]:
    names, chosen = frozenset(term.get("namespaces") or ()), term.get("namespaceSelector")
    if not names and chosen is None:
        names = frozenset((metadata.get("namespace") or "",))
    labels = metadata.get("labels") or {}
    selector = LabelSelector.from_object(term.get("labelSelector"))
    selector = _with_own(selector, term.get("matchLabelKeys") or (), "In", labels)
    selector = _with_own(selector, term.get("mismatchLabelKeys") or (), "NotIn", labels)
    return PeerSelector(selector, names, LabelSelector.from_object(chosen)), term.get("topologyKey") or ""


def _with_own(selector: LabelSelector, keys: Iterable[str], operator: str, labels: Mapping[str, str]) -> LabelSelector:
    """`selector` with the pod's own values of `keys` required or forbidden; keys that it lacks do not matter."""
    own = tuple(Requirement(key, operator, frozenset((labels[key],))) for key in keys if key in labels)
    return LabelSelector(tuple(dict.fromkeys(selector.requirements + own)), selector.nothing)


def _read_spread(pod: Obj, action: str, tie: TieMaker) -> tuple[SpreadConstraint, ...]:
    metadata = pod.get("metadata") or {}
    all_of_it = (pod.get("spec") or {}).get("topologySpreadConstraints") or ()
    constraints = [item for item in all_of_it if (item.get("whenUnsatisfiable") or "DoNotSchedule") == action]
    keys = tuple(dict.fromkeys(item.get("topologyKey") or "" for item in constraints))
    labels = metadata.get("labels") or {}
    found: list[SpreadConstraint] = []
    for item in constraints:
        selector = LabelSelector.from_object(item.get("labelSelector"))
        selector = _with_own(selector, item.get("matchLabelKeys") or (), "In", labels)
        chosen = PeerSelector(selector, frozenset((metadata.get("namespace") or "",)))
        counter = tie((chosen,), item.get("topologyKey") or "", _read_eligible(pod, item, keys))
        skew, domains = int(item.get("maxSkew") or 1), int(item.get("minDomains") or 1)
        found.append(SpreadConstraint(counter, skew, domains, selector.matches(labels)))
    return tuple(found)


def _read_eligible(pod: Obj, constraint: Obj, keys: tuple[str, ...]) -> Eligible:
    spec = pod.get("spec") or {}
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED)
    by_affinity = (constraint.get("nodeAffinityPolicy") or "Honor") == "Honor"
    by_taints = constraint.get("nodeTaintsPolicy") == "Honor"
    return Eligible(
        keys=keys,
        node_selector=tuple(sorted((spec.get("nodeSelector") or {}).items())) if by_affinity else (),
        affinity=NodeSelector.from_object(required) if by_affinity and required is not None else None,
        tolerations=read_tolerations(spec) if by_taints else None,
    )
