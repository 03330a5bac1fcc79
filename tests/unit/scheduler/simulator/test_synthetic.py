"""The synthetic cell has the published shape and is the same for the same seed."""

import random

import pytest

from corral.kinds.podspec import amounts, pod_requests
from corral.kinds.types import Obj, key_of
from corral.scheduler.simulator.synthetic import BATCH, PRODUCTION, Cell, borg_like


@pytest.fixture(scope="module")
def cell() -> Cell:
    return borg_like(500, random.Random(1))


def total(pods: list[Obj], resource: str) -> int:
    return sum(pod_requests(pod)[resource] for pod in pods)


def of_band(cell: Cell, priority: int) -> list[Obj]:
    return [pod for pod in cell.pods if pod["spec"]["priority"] == priority]


def test_the_same_seed_gives_the_same_cell(cell: Cell) -> None:
    assert borg_like(500, random.Random(1)) == cell
    assert borg_like(500, random.Random(2)) != cell


def test_production_has_its_published_share(cell: Cell) -> None:
    production, everything = of_band(cell, PRODUCTION), list(cell.pods)
    assert total(production, "cpu") / total(everything, "cpu") == pytest.approx(0.70, abs=0.01)
    assert total(production, "memory") / total(everything, "memory") == pytest.approx(0.55, abs=0.01)


def test_requests_against_capacity(cell: Cell) -> None:
    capacity = [amounts(node["status"]["allocatable"]) for node in cell.machines]
    for resource, share in (("cpu", 1.0), ("memory", 0.8)):
        asked = total(list(cell.pods), resource)
        assert asked / sum(amount[resource] for amount in capacity) == pytest.approx(share, abs=0.01)


def test_machines_and_tasks(cell: Cell) -> None:
    assert len(cell.machines) == len({key_of(node) for node in cell.machines}) == 500
    assert len(cell.pods) == len({key_of(pod) for pod in cell.pods}) == pytest.approx(12.4 * 500, rel=0.01)
    common = [node for node in cell.machines if amounts(node["status"]["allocatable"])["cpu"] == 32_000]
    assert len(common) / 500 == pytest.approx(0.927, abs=0.01)


def test_sizes_spread_over_orders_of_magnitude(cell: Cell) -> None:
    cpu = sorted(pod_requests(pod)["cpu"] for pod in of_band(cell, PRODUCTION))
    assert cpu[len(cpu) * 99 // 100] > 100 * cpu[len(cpu) // 100]
    assert cpu[-1] <= 32_000


def test_a_few_large_jobs_have_most_batch_tasks(cell: Cell) -> None:
    counts: dict[str, int] = {}
    for pod in of_band(cell, BATCH):
        job = pod["metadata"]["labels"]["job"]
        counts[job] = counts.get(job, 0) + 1
    largest = sorted(counts.values(), reverse=True)[: len(counts) // 5]
    assert sum(largest) > sum(counts.values()) / 2


@pytest.mark.parametrize("machines", [1, 2, 10])
def test_small_cells(machines: int) -> None:
    cell = borg_like(machines, random.Random(3))
    assert len(cell.machines) == machines
    assert len(cell.pods) == pytest.approx(12.4 * machines, abs=1)
