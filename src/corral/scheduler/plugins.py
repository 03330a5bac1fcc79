"""Rules of a user's own: filters, scores, a queue order and whole profiles, from installed Python packages.

A package registers them as entry points; installing it enables them. Filters, scores and an order are added to the
profiles that come with Corral; a profile of one's own says itself what it consists of, and is for pods whose
`schedulerName` is its entry point's name. One that cannot be loaded keeps the scheduler from starting: pods must not be
placed without a rule that somebody counts on. A filter or score that fails at work refuses the pods that it fails on,
in its own name, and is not asked about them again until a machine changes; it never takes the scheduler down.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from corral.base.errors import CorralError
from corral.scheduler.filters import RowFilter
from corral.scheduler.podclass import PodClass
from corral.scheduler.profile import PROFILES, Order, Profile, Waiting, by_priority
from corral.scheduler.scores import NEVER, RowScore
from corral.scheduler.snapshot import Rows, Snapshot

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

FILTERS = "corral.scheduler.filters"
SCORES = "corral.scheduler.scores"
ORDERS = "corral.scheduler.orders"
PROFILE_GROUP = "corral.scheduler.profiles"
_MOST_TOLD = 20
"""Different failures of one plug-in that are logged."""


class FilterPlugin:
    """The base of a filter: a subclass says which rows `fits`, and in `reason` or `explain` why the others do not."""

    reason: ClassVar[str] = "node(s) didn't pass a rule of this cell"
    """As it stands in a sentence: `0/5 nodes are available: 2 REASON`."""

    def fits(self, snapshot: Snapshot, pod: PodClass, rows: Rows) -> NDArray[np.bool_] | None:
        """One truth value for each of `rows`; None if all of them pass. Must depend on the machine and what is on it
        only, and change nothing."""
        raise NotImplementedError

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        """Why the machine of `row` does not pass; empty if it does."""
        mask = self.fits(snapshot, pod, np.array([row]))
        return [] if mask is None or mask[0] else [self.reason]

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        """`fits` for all rows."""
        return self.fits(snapshot, pod, slice(None))

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        """How many of `rows`, none of which passes, are refused for each reason."""
        if type(self).explain is FilterPlugin.explain:
            return {self.reason: len(rows)}
        return Counter(reason for row in rows for reason in self.explain(snapshot, pod, int(row)))


class ScorePlugin:
    """The base of a score: a subclass gives machines 0 to 100."""

    weight: ClassVar[float] = 1.0
    """Against the other scores of a profile; kube-scheduler's are between 1 and 3."""

    def score(
        self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """One number for each of `rows`, more is better; None if it is all the same for such pods.

        Args:
            share: what part of each row's cpu and memory would be taken with the pod there, at most 1; rows x 2.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Plugins:
    """What is installed."""

    filters: Sequence[RowFilter] = ()
    scores: Sequence[tuple[RowScore, float]] = ()
    order: Order | None = None
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    titles: Sequence[str] = ()
    """What to call them all."""

    def extend(self, profile: Profile) -> Profile:
        """A profile that comes with Corral, with the user's rules."""
        return replace(
            profile,
            row_filters=(*profile.row_filters, *self.filters),
            rows=(*profile.rows, *self.scores),
            order=self.order or profile.order,
            by_labels=profile.by_labels or bool(self.filters or self.scores),
        )

    def by_name(self) -> dict[str, Profile]:
        """All profiles, by the scheduler names that pods ask for them by."""
        return {**{name: self.extend(profile) for name, profile in PROFILES.items()}, **self.profiles}


def load() -> Plugins:
    """The rules of all installed packages.

    Raises:
        CorralError: one of them cannot be used; the message names it and its package.
    """
    filters: list[RowFilter] = []
    scores: list[tuple[RowScore, float]] = []
    installed = {group: _installed(group) for group in (FILTERS, SCORES, ORDERS, PROFILE_GROUP)}
    for plugin in installed[FILTERS]:
        filters.append(FilterGuard(plugin.title, plugin.made(FilterPlugin)))
    for plugin in installed[SCORES]:
        score = plugin.made(ScorePlugin)
        guard = ScoreGuard(plugin.title, score)
        scores.append((guard, plugin.weight(score)))
        filters.append(guard)
    orders = [OrderGuard(plugin.title, plugin.function()) for plugin in installed[ORDERS]]
    if len(orders) > 1:
        titles = " and ".join(order.title for order in orders)
        raise CorralError(f"cannot order one queue by {titles}", "uninstall all but one of these packages")
    return Plugins(
        tuple(filters),
        tuple(scores),
        orders[0] if orders else None,
        {plugin.name: plugin.profile() for plugin in installed[PROFILE_GROUP]},
        [f"{group.rpartition('.')[2][:-1]} {plugin.title}" for group in installed for plugin in installed[group]],
    )


def _installed(group: str) -> list["_Plugin"]:
    """What packages register under `group`, by name, each name once."""
    found: dict[str, _Plugin] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        plugin = _Plugin(group, point)
        if point.name in found or (group == PROFILE_GROUP and point.name in PROFILES):
            other = found[point.name].title if point.name in found else "a profile that comes with Corral"
            raise plugin.error(f"{other} has the same name", "rename one of them")
        found[point.name] = plugin
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Plugin:
    """One entry point."""

    group: str
    point: EntryPoint

    @property
    def name(self) -> str:
        return self.point.name

    @property
    def title(self) -> str:
        """How it is called in errors."""
        package = f"{self.point.dist.name} {self.point.dist.version}" if self.point.dist is not None else "?"
        return f"{self.name!r} of {package}"

    def error(self, why: str, remedy: str = "") -> CorralError:
        """The refusal to start with it."""
        package = self.point.dist.name if self.point.dist is not None else "the package"
        return CorralError(
            f"cannot use the plug-in {self.title} ({self.group} = {self.point.value}): {why}",
            remedy or f"mend it, or take it out: pip uninstall {package}",
        )

    def _loaded(self) -> Any:
        """What the entry point names; a class is called."""
        try:
            found = self.point.load()
            return found() if isinstance(found, type) else found
        except Exception as error:
            raise self.error(f"{type(error).__name__}: {error}") from error

    def made(self, base: type[_T]) -> _T:
        """The plug-in, which must be a `base`."""
        found = self._loaded()
        if not isinstance(found, base):
            raise self.error(f"it is {_kind(found)}, not a {base.__module__}.{base.__name__}")
        return found

    def function(self) -> Order:
        """The plug-in, which must be a function."""
        found = self._loaded()
        if not callable(found):
            raise self.error(f"it is {_kind(found)}, not a function")
        order: Order = found
        return order

    def weight(self, score: "ScorePlugin") -> float:
        """What the score weighs."""
        weight = score.weight
        if not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise self.error(f"its weight is {weight!r}, which is not a number above 0")
        return float(weight)

    def profile(self) -> Profile:
        """The plug-in, which must be a profile, with all rules that are not Corral's own kept from doing harm."""
        found = self.made(Profile)
        rows = [
            (ScoreGuard(self.title, score) if isinstance(score, ScorePlugin) else score, weight)
            for score, weight in found.rows
        ]
        guards = [score for score, _ in rows if isinstance(score, ScoreGuard)]
        return replace(
            found,
            name=self.name,
            shape_filters=self._guarded(found.shape_filters),
            row_filters=(*self._guarded(found.row_filters), *guards),
            peer_filters=self._guarded(found.peer_filters),
            rows=tuple(rows),
            order=found.order if found.order is by_priority else OrderGuard(self.title, found.order),
            by_labels=True,
        )

    def _guarded(self, rules: Sequence[_T]) -> tuple["_T | FilterGuard", ...]:
        return tuple(FilterGuard(self.title, rule) if isinstance(rule, FilterPlugin) else rule for rule in rules)


def _kind(found: object) -> str:
    return "None" if found is None else f"of the type {type(found).__name__}"


class _Failures:
    """What a plug-in failed with, for which class of pods; forgotten when a machine changes."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._known: WeakKeyDictionary[PodClass, tuple[int, str]] = WeakKeyDictionary()
        self._told: set[str] = set()

    def known(self, snapshot: Snapshot, pod: PodClass) -> str:
        """The failure, in words that go into a refusal; empty if there is none."""
        shape, text = self._known.get(pod, (-1, ""))
        return text if shape == snapshot.shape else ""

    def note(self, snapshot: Snapshot, pod: PodClass, error: Exception) -> str:
        """Remember a failure, and log what has not been logged yet."""
        text = f"node(s) on which {self._title} failed: {type(error).__name__}: {error}"
        self._known[pod] = snapshot.shape, text
        _tell(self._told, text, error)
        return text


def _tell(told: set[str], text: str, error: Exception) -> None:
    if text not in told and len(told) < _MOST_TOLD:
        told.add(text)
        _log.error("a scheduler plug-in failed: %s", text, exc_info=error)


def _checked(found: object, count: int, kind: str) -> NDArray[Any]:
    """An array of `count` truth values or finite numbers.

    Raises:
        TypeError, ValueError: it is something else.
    """
    array = np.asarray(found)
    if array.shape != (count,):
        raise ValueError(f"it gave the shape {array.shape} for {count} rows")
    if kind == "b" and array.dtype != np.bool_:
        raise TypeError(f"it gave {array.dtype}, not truth values")
    if kind == "f":
        array = array.astype(np.float64)
        if not np.isfinite(array).all():
            raise ValueError("it gave a score that is not finite")
    return array


class FilterGuard:
    """A user's filter that never raises: where it fails it refuses, and says so. What `fits` says is what counts."""

    def __init__(self, title: str, rule: FilterPlugin) -> None:
        self._rule = rule
        self._failures = _Failures(f"the filter {title}")

    def fits(self, snapshot: Snapshot, pod: PodClass, rows: Rows) -> NDArray[np.bool_] | None:
        count = len(snapshot.alive[rows])

        def ask() -> NDArray[np.bool_] | None:
            mask = self._rule.fits(snapshot, pod, rows)
            return None if mask is None else _checked(mask, count, "b")

        return self._ask(snapshot, pod, ask, lambda text: np.zeros(count, dtype=np.bool_))

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        return self.fits(snapshot, pod, slice(None))

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        def ask() -> dict[str, int]:
            return {str(reason): int(count) for reason, count in self._rule.tally(snapshot, pod, rows).items()}

        return self._ask(snapshot, pod, ask, lambda text: {text: len(rows)})

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        mask = self.fits(snapshot, pod, np.array([row]))
        if mask is None or mask[0]:
            return []

        def ask() -> list[str]:
            return [str(reason) for reason in self._rule.explain(snapshot, pod, row)] or [self._rule.reason]

        return self._ask(snapshot, pod, ask, lambda text: [text])

    def _ask(self, snapshot: Snapshot, pod: PodClass, ask: Callable[[], _T], failed: Callable[[str], _T]) -> _T:
        text = self._failures.known(snapshot, pod)
        if not text:
            try:
                return ask()
            except Exception as error:
                text = self._failures.note(snapshot, pod, error)
        return failed(text)


class ScoreGuard:
    """A user's score that never raises: pods that it fails on go nowhere, as a filter it refuses them and says why."""

    def __init__(self, title: str, rule: ScorePlugin) -> None:
        self._rule = rule
        self._failures = _Failures(f"the score {title}")

    def score(
        self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        if not self._failures.known(snapshot, pod):
            try:
                scores = self._rule.score(snapshot, pod, rows, share)
                return None if scores is None else _checked(scores, len(share), "f")
            except Exception as error:
                self._failures.note(snapshot, pod, error)
        return np.full(len(share), NEVER)

    def fits(self, snapshot: Snapshot, pod: PodClass, rows: Rows) -> NDArray[np.bool_] | None:
        failed = self._failures.known(snapshot, pod)
        return np.zeros(len(snapshot.alive[rows]), dtype=np.bool_) if failed else None

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        return self.fits(snapshot, pod, slice(None))

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        return {self._failures.known(snapshot, pod): len(rows)}

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        failed = self._failures.known(snapshot, pod)
        return [failed] if failed else []


class OrderGuard:
    """A user's queue order that never raises: a pod that it fails on keeps the place that its priority gives it."""

    def __init__(self, title: str, order: Order) -> None:
        self.title = title
        self._order = order
        self._told: set[str] = set()

    def __call__(self, pod: Waiting) -> tuple[float, ...]:
        try:
            found: Any = self._order(pod)
            place = tuple(float(part) for part in (found if isinstance(found, tuple) else (found,)))
            if any(map(math.isnan, place)):
                raise ValueError("it gave a place that is not a number")
        except Exception as error:
            _tell(self._told, f"the queue order {self.title} failed: {type(error).__name__}: {error}", error)
            return by_priority(pod)
        # Whatever the order says, equals go in the order of their arrival.
        return (*place, pod.order)
