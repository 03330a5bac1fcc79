"""What would become of pods that do not exist: decided as the live loop would, on a copy of its snapshot. Pure.

A trial runs in steps, so that whoever serves others meanwhile can take breaks. Later steps see what earlier ones
placed, and the room that victims leave. A refused pod is tried again as long as one that was placed after it may let it
in, as the live loop does.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from corral.kinds.podgroups import GangKey, gang_of
from corral.kinds.podspec import priority
from corral.kinds.storage import Claim
from corral.kinds.types import Key, Obj
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.gangs import GangBook
from corral.scheduler.plan import Bind, Decision, Pending, Preempt, Wait, assign
from corral.scheduler.podclass import PodClass
from corral.scheduler.preemption import Budget, spend
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.why import explain

_SECOND_CHANCES = 10


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod goes, and which pods that are there now must end before."""

    node: str
    victims: tuple[Key, ...] = ()


class Trial:
    """One trial; `places` and `refused` are complete when all `steps` are done.

    Args:
        cache: of a snapshot that is the trial's own.
        pods: in the order in which they would arrive; none of their keys is that of a pod in the snapshot.
        budgets: how many pods of which kind may be made to go.
        gangs: the trial's own; more groups may be put in before the first step.
    """

    def __init__(
        self,
        cache: CandidateCache,
        pods: Iterable[tuple[Key, Obj]],
        now: datetime,
        rng: random.Random,
        budgets: Sequence[Budget] = (),
        gangs: GangBook | None = None,
    ) -> None:
        self.places: dict[Key, Place] = {}
        self.refused: dict[Key, PodClass] = {}
        self.lacks: dict[Key, str] = {}
        """What the gangs of refused pods lack."""
        self.gangs = gangs or GangBook()
        self._cache = cache
        self._snapshot: Snapshot = cache.snapshot
        self._now = now
        self._rng = rng
        self._budgets = budgets
        self._pods = dict(pods)
        self._gang_of = {key: gang for key, pod in self._pods.items() if (gang := gang_of(pod)) is not None}
        self._left: list[Key] = []
        """The next is the last."""
        self._classes: dict[int, tuple[PodClass, Obj]] = {}
        """By identity of the pod, since pods that are alike are often the same object."""
        self._chances = _SECOND_CHANCES

    def put_claim(self, claim: Claim) -> None:
        """A claim that would be made; one that is there already stays as it is."""
        if claim.key not in self._snapshot.volumes.claims:
            self._snapshot.volumes.put_claim(claim.key, claim)

    def steps(self, limit: int) -> Iterator[None]:
        """Decide all pods, up to `limit` of them between one yield and the next.

        Raises:
            ValueError, StatusError: a pod asks for something that makes no sense.
        """
        # Sorting is stable: among equal priorities, who comes first is first.
        self._left = self._together(sorted(self._pods, key=lambda key: -priority(self._pods[key])))
        yield
        while self._left or self._retry():
            taken = [self._left.pop() for _ in range(min(limit, len(self._left)))]
            while self._left and (gang := self._gang_of.get(taken[-1])) and self._gang_of.get(self._left[-1]) == gang:
                taken.append(self._left.pop())
            chosen = {key: self._pending(key, number) for number, key in enumerate(taken)}
            for decision in assign(self._cache, list(chosen.values()), self._now, self._rng, self._budgets):
                self._note(chosen[decision.pod], decision)
            yield

    def explain(self, key: Key) -> Obj:
        """Why a pod was refused, as things are now: `message`, `closest`, `hints` and `would_help` of `why.explain`."""
        # By its own name the pod may exist, and be somewhere.
        pod = {**self._pods[key], "metadata": {**self._pods[key]["metadata"], "name": key.name}}
        profile, name = self._cache.profile_of(self.refused[key]), self.refused[key].scheduler
        story = explain(self._snapshot, pod, scheduler=name, profile=profile, group=self.lacks.get(key, ""))
        return {field: story[field] for field in ("message", "closest", "hints", "would_help")}

    def _together(self, keys: Iterable[Key]) -> list[Key]:
        """The last first, and the members of a gang where the first of them is."""
        units: dict[Key | GangKey, list[Key]] = {}
        for key in keys:
            units.setdefault(self._gang_of.get(key, key), []).append(key)
        return [key for members in units.values() for key in members][::-1]

    def _pending(self, key: Key, number: int) -> Pending:
        pod, gang = self._pods[key], self._gang_of.get(key)
        if id(pod) not in self._classes:
            self._classes[id(pod)] = self._snapshot.classify(pod), pod
        now = self.gangs.gang(gang) if gang is not None else None
        return Pending(key, self._classes[id(pod)][0], priority(pod), number, now)

    def _note(self, pod: Pending, decision: Decision) -> None:
        gang = self._gang_of.get(pod.key)
        if gang is not None and isinstance(decision, Bind | Preempt):
            self.gangs.see(gang, pod.key, counts=True)
        if isinstance(decision, Bind):
            self.places[pod.key] = Place(decision.node)
        elif isinstance(decision, Preempt):
            # Two pods of one step may name the same victim: it goes for the first.
            victims = [(key, self._snapshot.class_of(key)) for key in decision.victims if self._snapshot.node_of(key)]
            self._budgets = spend(self._budgets, victims)
            for key, _ in victims:
                self._snapshot.remove(key)
            self._snapshot.place(pod.key, pod.pod_class, decision.node)
            self.places[pod.key] = Place(decision.node, tuple(key for key, _ in victims))
        else:
            self.refused[pod.key] = pod.pod_class
            if pod.gang is not None:
                self.lacks[pod.key] = decision.message if isinstance(decision, Wait) or decision.group else ""

    def _retry(self) -> bool:
        """Take up again the refused pods that fit somewhere by now."""
        concerned = {pod_class for pod_class in self.refused.values() if pod_class.peers.gains_by_others}
        fitting = {pod_class for pod_class in concerned if self._cache.fits_somewhere(pod_class)}
        gangs = {self._gang_of[key] for key, found in self.refused.items() if found in fitting and key in self._gang_of}
        again = [key for key, found in self.refused.items() if found in fitting or self._gang_of.get(key) in gangs]
        if not again or not self._chances:
            return False
        self._chances -= 1
        for key in again:
            del self.refused[key]
        self._left = self._together(again)
        return True
