"""The simulator's answers as JSON; amounts are in thousandths of a core and in whole units of everything else."""

from collections.abc import Mapping, Sequence
from typing import Any

from corral.kinds.types import Key
from corral.scheduler.simulator.compaction import Compaction
from corral.scheduler.simulator.failure import Failure
from corral.scheduler.simulator.fit import Fit, Refusal, Totals
from corral.scheduler.simulator.timeline import Timeline


def of_fit(fit: Fit) -> dict[str, Any]:
    """`corral simulate fit`, and one profile of `corral simulate policy`."""
    return {
        "fits": fit.fits,
        "profile": fit.profile,
        "before": _totals(fit.before),
        "after": _totals(fit.after),
        "workloads": [
            {"name": row.name, "band": row.band, "pods": row.pods, "placed": row.placed, "machines": row.machines}
            for row in fit.workloads
        ],
        "placed": _machines(fit.outcome.placed),
        "refused": [{**_pod(key), "reason": reason} for key, reason in fit.outcome.refused.items()],
        "pushedOut": _machines(fit.outcome.evicted),
        "reasons": _reasons(fit.refusals),
    }


def of_failure(failure: Failure) -> dict[str, Any]:
    """`corral simulate fail`."""
    bands = [
        {
            "band": loss.band,
            "running": loss.running,
            "displaced": loss.displaced,
            "pushedOut": loss.pushed_out,
            "placedAgain": loss.placed,
            "lost": loss.lost,
            "endedWithMachine": loss.ended,
        }
        for loss in failure.bands
    ]
    return {
        "survives": failure.survives,
        "profile": failure.profile,
        "died": list(failure.died),
        "before": _totals(failure.before),
        "after": _totals(failure.after),
        "bands": bands,
        "placed": _machines(failure.outcome.placed),
        "refused": [{**_pod(key), "reason": reason} for key, reason in failure.outcome.refused.items()],
        "reasons": _reasons(failure.refusals),
    }


def of_compactions(found: Mapping[str, Compaction]) -> list[dict[str, Any]]:
    """`corral simulate compact`: per profile what each trial needed, and the 90th percentiles."""
    return [
        {
            "profile": name,
            "needed": one.result,
            "bound": one.bound,
            "trials": list(one.needed),
            "bounds": list(one.bounds),
        }
        for name, one in found.items()
    ]


def of_timeline(line: Timeline) -> dict[str, Any]:
    """`corral simulate run`; times are in seconds."""
    waits = [
        {
            "band": row.band,
            "pods": row.pods,
            "ran": row.ran,
            "pushedOut": row.pushed_out,
            "wait": {"p50": row.median, "p90": row.p90, "p99": row.p99, "longest": row.longest},
        }
        for row in line.waits
    ]
    resources = {
        name: {"allocatable": there, "mean": round(line.mean(name)), "peak": max(line.used[name], default=0)}
        for name, there in line.capacity.items()
    }
    return {
        "profile": line.profile,
        "machines": line.machines,
        "seconds": line.span,
        "resources": resources,
        "bands": waits,
        "reasons": _reasons(line.refusals),
        "times": list(line.times),
        "used": {name: list(amounts) for name, amounts in line.used.items()},
        "waiting": list(line.waiting),
    }


def _totals(totals: Totals) -> dict[str, Any]:
    resources = {
        use.name: {"allocatable": use.allocatable, "used": use.used, "stranded": use.stranded}
        for use in totals.resources
    }
    return {"machines": totals.machines, "inUse": totals.in_use, "resources": resources}


def _pod(key: Key) -> dict[str, str]:
    return {"namespace": key.namespace, "pod": key.name}


def _machines(placed: Mapping[Key, str]) -> list[dict[str, str]]:
    return [{**_pod(key), "machine": machine} for key, machine in placed.items()]


def _reasons(refusals: Sequence[Refusal]) -> list[dict[str, Any]]:
    return [{"workload": one.workload, "pods": one.pods, "reason": one.reason} for one in refusals]
