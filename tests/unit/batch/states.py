"""States for admission, in few words: cpu in whole units, one flavor unless a test says more."""

from collections.abc import Mapping
from typing import Any

from corral.batch.model import (
    Cohort,
    Decisions,
    Flavor,
    FlavorResource,
    Group,
    Holding,
    Place,
    PodSet,
    Preemption,
    Queue,
    Quota,
    State,
    Waiting,
)
from corral.kinds.types import Key

CPU = FlavorResource("default", "cpu")


def queue(
    name: str,
    nominal: int | Mapping[str, int] = 10,
    *,
    borrowing: int | None = None,
    lending: int | None = None,
    cohort: str = "",
    preemption: Preemption | None = None,
    **more: Any,
) -> Queue:
    """A queue for cpu; `nominal` may give a quota for each flavor."""
    flavors = {"default": nominal} if isinstance(nominal, int) else nominal
    quotas = {FlavorResource(flavor, "cpu"): Quota(amount, borrowing, lending) for flavor, amount in flavors.items()}
    groups = (Group(("cpu",), tuple(flavors)),)
    return Queue(name, groups, quotas, cohort, preemption=preemption or Preemption(), **more)


def place(name: str, priority: int = 0, at: int = 0) -> Place:
    return Place(-priority, f"2026-01-01T00:00:{at:02d}Z", 0, Key("default", name))


def waits(name: str, of: str, cpu: int = 1, *, priority: int = 0, at: int = 0, **more: Any) -> Waiting:
    """A workload of one pod in the queue `of`, created at second `at`."""
    pod_sets = more.pop("pod_sets", (PodSet("main", 1, {"cpu": cpu}),))
    return Waiting(Key("default", name), f"uid-{name}", of, place(name, priority, at), pod_sets, **more)


def holds(
    name: str, of: str, cpu: int = 1, *, priority: int = 0, at: int = 0, flavor: str = "default", evicted: bool = False
) -> Holding:
    """A workload that runs in the queue `of`."""
    usage = {FlavorResource(flavor, "cpu"): cpu}
    return Holding(Key("default", name), of, place(name, priority, at), usage, f"2026-01-01T01:00:{at:02d}Z", evicted)


def state(*parts: Any) -> State:
    """A state of queues, cohorts, flavors and workloads in any order; the flavor `default` is always there."""
    flavors = {part.name: part for part in parts if isinstance(part, Flavor)}
    return State(
        {"default": Flavor("default"), **flavors},
        tuple(part for part in parts if isinstance(part, Cohort)),
        tuple(part for part in parts if isinstance(part, Queue)),
        tuple(part for part in parts if isinstance(part, Waiting)),
        tuple(part for part in parts if isinstance(part, Holding)),
    )


def admitted(decisions: Decisions) -> list[str]:
    return [decision.key.name for decision in decisions.admit]


def preempted(decisions: Decisions) -> dict[str, str]:
    """Who must go, and why."""
    return {decision.key.name: decision.reason for decision in decisions.preempt}


def reasons(decisions: Decisions) -> dict[str, str]:
    return {decision.key.name: decision.message for decision in decisions.wait}
