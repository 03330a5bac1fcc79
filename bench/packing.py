"""How many machines a workload needs: cell compaction (Borg's measure) on synthetic cells of Borg's published shape.

    python bench/packing.py [--machines N] [--seeds N] [--trials N] [--json]

For each profile: the machines needed (90th percentile of the trials) in ratio to best fit and to the volume bound, the
mean over cells. "hybrid, largest first" is what packing anew could reach if it may choose the order; live, pods come as
they come. Then what it costs to keep production and batch in cells of their own.
"""

import argparse
import json
import random
from collections.abc import Sequence
from statistics import mean

from corral.kinds.podspec import amounts
from corral.kinds.types import Obj
from corral.scheduler.profile import HYBRID, PACKING, SPREADING, Profile
from corral.scheduler.simulator.compaction import compact
from corral.scheduler.simulator.synthetic import PRODUCTION, Cell, borg_like

_RANDOM = Profile("random", ())
# Borg expects pods to use less than they request, so that 20 % of the workload runs in reclaimed resources
# (EuroSys'15, section 5.5): what it keeps for a pod is, on average, this part of the request.
_RESERVED = 0.8


def _needed(cell: Cell, pods: Sequence[Obj], profile: Profile, trials: int) -> tuple[int, int]:
    """Machines needed, and the volume bound."""
    found = compact(cell.machines, pods, profile=profile, rng=random.Random(1), trials=trials)
    return found.result, found.bound


def _requests(pod: Obj) -> Obj:
    requests: Obj = pod["spec"]["containers"][0]["resources"]["requests"]
    return requests


def _largest_first(cell: Cell) -> list[Obj]:
    """By the larger of the shares of the cell that a pod asks for; priorities still go first."""
    capacity = [amounts(machine["status"]["allocatable"]) for machine in cell.machines]
    total = {name: sum(amount[name] for amount in capacity) for name in ("cpu", "memory")}
    return sorted(
        cell.pods, key=lambda pod: -max(amount / total[name] for name, amount in amounts(_requests(pod)).items())
    )


def _profiles(cell: Cell, trials: int) -> dict[str, float]:
    best, bound = _needed(cell, cell.pods, PACKING, trials)
    figures = {"best fit / volume bound": best / bound}
    for profile in (HYBRID, SPREADING, _RANDOM):
        needed, bound = _needed(cell, cell.pods, profile, trials)
        figures |= {f"{profile.name} / best fit": needed / best, f"{profile.name} / volume bound": needed / bound}
    pods = _largest_first(cell)
    best, _ = _needed(cell, pods, PACKING, trials)
    needed, bound = _needed(cell, pods, HYBRID, trials)
    figures["hybrid / best fit, both largest first"] = needed / best
    figures["hybrid, largest first / volume bound"] = needed / bound
    return figures


def _sharing(cell: Cell, trials: int) -> dict[str, float]:
    """What cells of their own for production and batch need more than a shared one: by requests, as Corral places; and
    as Borg does, where batch may use what pods request and do not need, and production may not."""
    production = [pod for pod in cell.pods if pod["spec"]["priority"] >= PRODUCTION]
    batch = [pod for pod in cell.pods if pod["spec"]["priority"] < PRODUCTION]
    alone, _ = _needed(cell, production, HYBRID, trials)
    apart, _ = _needed(cell, batch, HYBRID, trials)
    shared, _ = _needed(cell, cell.pods, HYBRID, trials)
    reserved_apart, _ = _needed(cell, [_reserved(pod) for pod in batch], HYBRID, trials)
    reserved_shared, _ = _needed(cell, [_reserved(pod) for pod in cell.pods], HYBRID, trials)
    return {
        "production and batch apart, more machines, %": 100 * ((alone + apart) / shared - 1),
        "the same with Borg's reclamation, %": 100 * ((alone + reserved_apart) / max(reserved_shared, alone) - 1),
    }


def _reserved(pod: Obj) -> Obj:
    """The pod as it would be if it requested what is kept for it."""
    [container] = pod["spec"]["containers"]
    asked = amounts(_requests(pod))
    requests = {"cpu": f"{asked['cpu'] * _RESERVED:.0f}m", "memory": f"{asked['memory'] * _RESERVED:.0f}"}
    return {**pod, "spec": {**pod["spec"], "containers": [{**container, "resources": {"requests": requests}}]}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=2, help="how many cells")
    parser.add_argument("--trials", type=int, default=2, help="of each compaction; Borg's papers have 11")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    cells = [borg_like(options.machines, random.Random(seed)) for seed in range(1, options.seeds + 1)]
    figures = [_profiles(cell, options.trials) | _sharing(cell, options.trials) for cell in cells]
    results = {name: mean(figure[name] for figure in figures) for name in figures[0]}
    if options.json:
        print(json.dumps(results))
        return
    for name, value in results.items():
        each = "  ".join(f"{figure[name]:.3f}" for figure in figures)
        print(f"{name:<50} {value:>8.3f}   cells: {each}")


if __name__ == "__main__":
    main()
