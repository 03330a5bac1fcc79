"""What a machine's free GPUs are still good for: the GPU time that pods yet to come would get out of them. Pure.

FGD (Weng et al., USENIX ATC'23) measures fragmentation by what a single typical pod could not use. Here whole futures
are played through: typical pods arrive one after the other, each stays if it fits, and what they get of the GPUs in the
end is the machine's worth, as a mean over some dozens of such streams. That sees what one pod does not: that cpu runs
out before the GPUs do, or that what two pods leave over is of use to no third. It is the rollout of a base policy
(Bertsekas and Castanon, Journal of Heuristics 5, 1999), with first come, first served as the policy.

Streams are drawn once for a mix of pods, and every state of a machine meets the same ones (common random numbers), so
that differences between states are differences of the states. States that are almost alike are valued once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corral.kinds.accelerators import WHOLE

STREAMS = 64
LENGTH = 100
_NEVER = 255
"""Later than all moments of a stream."""
_MOST_TYPES = 256
_MOST_KNOWN = 1_000_000
_AT_ONCE = 512
"""So many states are played at once, to bound memory."""
_MIB = 1 << 20
_EIGHTH = 125
"""Of a core. Powers of two of it come out even for cores and memory alike."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a typical pod asks for: cpu in thousandths, memory in bytes, and `whole` GPUs or `milli` of one."""

    cpu: int
    memory: int
    whole: int
    milli: int
    where: int = 0
    """Pods with the same number may go to the same machines."""


@dataclass(frozen=True)
class States:
    """Machines as they are or would be; cpu in thousandths, `free` in thousandths, states x GPUs."""

    cpu: NDArray[np.integer]
    memory: NDArray[np.integer]
    """In bytes, or in MiB once it is coarse."""
    free: NDArray[np.int16]
    group: NDArray[np.int16]
    """Which machines take the same pods; see `Outlook`."""

    def at(self, rows: NDArray[np.intp]) -> "States":
        """Some of them, or some of them more than once."""
        return States(self.cpu[rows], self.memory[rows], self.free[rows], self.group[rows])

    def coarse(self) -> "States":
        """A little less of cpu and memory, so that fewer states differ; the GPUs in order of what is left of them."""
        cpu = _coarse(self.cpu // _EIGHTH) * np.int32(_EIGHTH)
        return States(cpu, _coarse(self.memory // _MIB), np.sort(self.free, axis=1), self.group)


class Outlook:
    """The streams of one mix of pods, and what states were found to be worth.

    Args:
        mix: how often each demand comes; more than 256 of them: the most common.
        allowed: which kinds of demand (`Demand.where`) each group of machines takes; groups x kinds.
    """

    def __init__(self, mix: Mapping[Demand, float], allowed: NDArray[np.bool_]) -> None:
        common = sorted(mix, key=lambda demand: (-mix[demand], _order(demand)))[:_MOST_TYPES]
        self.demands: Sequence[Demand] = sorted(common, key=_order)
        weights = np.array([mix[demand] for demand in self.demands])
        # One more than there are, which asks for nothing: what a lane gets when nothing fits any more.
        self._cpu = np.array([*(demand.cpu for demand in self.demands), 0], dtype=np.int32)
        self._memory = np.array([*(_ceil_mib(demand.memory) for demand in self.demands), 0], dtype=np.int32)
        self._whole = np.array([*(demand.whole for demand in self.demands), 0], dtype=np.int16)
        self._milli = np.array([*(demand.milli for demand in self.demands), 0], dtype=np.int16)
        # Always the same draws: what is random is the order of arrivals, not the decision.
        draws = np.random.Generator(np.random.Philox(key=1)).random((STREAMS, LENGTH))
        arrivals = np.searchsorted(np.cumsum(weights) / weights.sum(), draws, side="right")
        self.arrivals: NDArray[np.intp] = np.full((STREAMS, LENGTH + 1), len(self.demands), dtype=np.intp)
        """The index of the demand that comes; streams x moments, and in the end the one that asks for nothing."""
        self.arrivals[:, :LENGTH] = np.minimum(arrivals, len(self.demands) - 1)
        self._next = _next_arrivals(self.arrivals, len(self.demands))
        where = [demand.where for demand in self.demands]
        self._by_group = None if allowed[:, where].all() else _blocked(~allowed[:, where])
        self._by_cpu = _Steps(self._cpu[:-1])
        self._by_memory = _Steps(self._memory[:-1])
        self._by_part = _Steps(self._milli[:-1])
        self._by_whole = _Steps(self._whole[:-1])
        self._known: dict[bytes, float] = {}

    def __deepcopy__(self, memo: object) -> "Outlook":
        return self

    def same(self, other: "Outlook") -> bool:
        """Whether the other one would say the same."""
        if self._by_group is None or other._by_group is None:
            alike = self._by_group is other._by_group
        else:
            alike = np.array_equal(self._by_group, other._by_group)
        return alike and self.demands == other.demands and np.array_equal(self.arrivals, other.arrivals)

    def worth(self, states: States) -> NDArray[np.float64]:
        """What pods to come would get of the GPUs of each state, in thousandths of a GPU."""
        states = states.coarse()
        keys = _keys(states, grouped=self._by_group is not None)
        found = [self._known.get(key) for key in keys]
        unknown = {key: index for index, key in enumerate(keys) if found[index] is None}
        if unknown:
            if len(self._known) > _MOST_KNOWN:
                self._known.clear()
            rows = np.fromiter(unknown.values(), dtype=np.intp, count=len(unknown))
            for start in range(0, len(rows), _AT_ONCE):
                part = rows[start : start + _AT_ONCE]
                values = self._play(states.at(part)).tolist()
                self._known.update(zip((keys[row] for row in part), values, strict=True))
                unknown.update(zip((keys[row] for row in part), values, strict=True))
            found = [unknown[key] if value is None else value for key, value in zip(keys, found, strict=True)]
        return np.array(found, dtype=np.float64)

    def _play(self, states: States) -> NDArray[np.float64]:
        """Play all streams on all states at once: a lane is one stream on one state, and ends when nothing fits."""
        count, arrivals = len(states.cpu), self.arrivals.ravel()
        gained = np.repeat(states.free.sum(axis=1), STREAMS)
        lane = np.arange(count * STREAMS)
        first = lane % STREAMS * (LENGTH + 1)
        lanes, now = states.at(lane // STREAMS), first
        while True:
            coming = self._next_fitting(lanes, now)
            ended = coming == _NEVER
            if np.count_nonzero(ended) * 2 > len(lane):
                over, on = ended.nonzero()[0], (~ended).nonzero()[0]
                gained[lane[over]] -= lanes.free[over].sum(axis=1)
                if not len(on):
                    break
                lane, first, coming, lanes = lane[on], first[on], coming[on], lanes.at(on)
            now = first + np.minimum(coming, LENGTH)
            demand = arrivals[now]
            now += coming < LENGTH
            free = taken(lanes.free, self._whole[demand], self._milli[demand])
            lanes = States(lanes.cpu - self._cpu[demand], lanes.memory - self._memory[demand], free, lanes.group)
        means: NDArray[np.float64] = gained.reshape(count, STREAMS).mean(axis=1)
        return means

    def _next_fitting(self, lanes: States, now: NDArray[np.intp]) -> NDArray[np.uint8]:
        """When the next pod comes that fits; _NEVER: none does."""
        coming = self._next.take(now, axis=0)
        coming |= self._by_cpu.blocked(lanes.cpu)
        coming |= self._by_memory.blocked(lanes.memory)
        coming |= self._by_part.blocked(lanes.free.max(axis=1))
        coming |= self._by_whole.blocked(np.add.reduce(lanes.free == WHOLE, axis=1))
        if self._by_group is not None:
            coming |= self._by_group.take(lanes.group, axis=0)
        first: NDArray[np.uint8] = coming.min(axis=1)
        return first


class _Steps:
    """One resource: which demands an amount of it is too little for. Many times quicker looked up than compared."""

    def __init__(self, asked: NDArray[np.integer]) -> None:
        self._levels, level = np.unique(asked, return_inverse=True)
        self._table = _blocked(level[None, :] >= np.arange(len(self._levels) + 1)[:, None])

    def blocked(self, amounts: NDArray[np.integer]) -> NDArray[np.uint8]:
        """_NEVER where the demand asks for more, else 0; amounts x demands."""
        blocked: NDArray[np.uint8] = self._table.take(self._levels.searchsorted(amounts, side="right"), axis=0)
        return blocked


def _blocked(where: NDArray[np.bool_]) -> NDArray[np.uint8]:
    blocked: NDArray[np.uint8] = where * np.uint8(_NEVER)
    return blocked


def taken(free: NDArray[np.int16], whole: NDArray[np.int16], milli: NDArray[np.int16]) -> NDArray[np.int16]:
    """What is left of the GPUs when one pod more is on each row: whole ones are the first untouched ones, a part is
    taken where the least is left. The pod must fit."""
    left = free.copy()
    parts = milli.nonzero()[0]
    if len(parts):
        asked = milli[parts]
        # What does not suffice is less than nothing, and so very much without a sign.
        best = (free[parts] - asked[:, None]).view(np.uint16).argmin(axis=1)
        left[parts, best] -= asked
    single = (whole == 1).nonzero()[0]
    if len(single):
        left[single, free[single].argmax(axis=1)] = 0
    several = (whole > 1).nonzero()[0]
    if len(several):
        untouched = free[several] == WHOLE
        left[several] -= WHOLE * (untouched & (np.cumsum(untouched, axis=1) <= whole[several, None]))
    return left


def _order(demand: Demand) -> tuple[int, ...]:
    return demand.whole * WHOLE + demand.milli, demand.cpu, demand.memory, demand.whole, demand.where


def _next_arrivals(arrivals: NDArray[np.intp], kinds: int) -> NDArray[np.uint8]:
    """For each stream and moment, when each demand comes next, or _NEVER. (streams x moments) x demands."""
    streams = np.arange(STREAMS)
    upcoming = np.full((STREAMS, LENGTH + 1, kinds), _NEVER, dtype=np.uint8)
    for moment in range(LENGTH - 1, -1, -1):
        upcoming[:, moment] = upcoming[:, moment + 1]
        upcoming[streams, moment, arrivals[:, moment]] = moment
    return upcoming.reshape(-1, kinds)


def _ceil_mib(memory: int) -> int:
    return min(-(-memory // _MIB), 2**31 - 1)


def _coarse(amounts: NDArray[np.integer]) -> NDArray[np.int32]:
    """Rounded down to five binary digits."""
    amounts = np.clip(amounts, 0, 2**24)
    _, exponent = np.frexp(amounts)
    step = np.left_shift(1, np.maximum(exponent - 5, 0))
    rounded: NDArray[np.int32] = (amounts - amounts % step).astype(np.int32)
    return rounded


def _keys(states: States, *, grouped: bool) -> list[bytes]:
    """Equal where all is equal."""
    table = np.empty((len(states.cpu), 5 + states.free.shape[1]), dtype=np.int16)
    table[:, 0:2] = states.cpu.astype(np.int32)[:, None].view(np.int16)
    table[:, 2:4] = states.memory.astype(np.int32)[:, None].view(np.int16)
    table[:, 4] = states.group if grouped else 0
    table[:, 5:] = states.free
    keys: list[bytes] = table.view(np.dtype((np.void, table.shape[1] * 2)))[:, 0].tolist()
    return keys
