"""What the simulator says of a cell is what the live scheduler then does in it."""

import random
from datetime import UTC, datetime

import pytest

from corral.cli.simulation.sources import read_cell
from corral.kinds import conditions
from corral.kinds.types import Key, Obj
from corral.scheduler.profile import SPREADING
from corral.scheduler.simulator import manifests
from corral.scheduler.simulator.cell import SimulatedCell
from corral.testing.scheduling import node, pod
from corral.testing.scheduling_cell import Cell, is_bound

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_ZONE = "topology.kubernetes.io/zone"


def random_node(number: int, rng: random.Random) -> Obj:
    # No two machines are alike: ties are broken by chance, and the live scheduler's chance serves its informers, too.
    cpu, memory = 2000 + 997 * number, 2000 + 1301 * ((number * 5) % 6)
    taints = ["dedicated=ml:NoSchedule"] if rng.random() < 0.2 else []
    return node(f"n{number}", cpu=f"{cpu}m", memory=f"{memory}Mi", labels={_ZONE: rng.choice("ab")}, taints=taints)


def random_pod(number: int, rng: random.Random) -> Obj:
    spec: Obj = {}
    if rng.random() < 0.2:
        spec["nodeSelector"] = {_ZONE: rng.choice("abc")}
    if rng.random() < 0.2:
        spec["tolerations"] = [{"key": "dedicated", "operator": "Exists"}]
    labels = {"app": rng.choice("xy")}
    if rng.random() < 0.3:
        selector = {"labelSelector": {"matchLabels": labels}}
        term = {"topologyKey": "kubernetes.io/hostname", **selector}
        spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    cpu, memory = rng.choice(["500m", "1", "2", "3"]), rng.choice(["512Mi", "1Gi", "3Gi"])
    return pod(f"p{number:02}", cpu=cpu, memory=memory, labels=labels, **spec)


def is_decided(found: Obj) -> bool:
    return is_bound(found) or conditions.get(found, "PodScheduled") is not None


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_said_to_fit_is_bound_where_it_was_said(cell: Cell, seed: int) -> None:
    rng = random.Random(seed)
    machines = [random_node(number, rng) for number in range(6)]
    pods = [random_pod(number, rng) for number in range(25)]
    await cell.add(*machines, *pods)
    scenario = manifests.read(await read_cell(cell.client, "the cell"))
    outcome = SimulatedCell(scenario, SPREADING).settle(NOW, random.Random(1))
    await cell.schedule()
    happened: dict[Key, str] = {}
    for number in range(25):
        found = await cell.until(f"p{number:02}", is_decided)
        if is_bound(found):
            happened[Key("default", found["metadata"]["name"])] = found["spec"]["nodeName"]
    assert outcome.placed == happened
    assert outcome.placed
