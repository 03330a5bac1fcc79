"""One run: start the world, let it be used while it breaks by plan, mend it, see that it heals, check, clean up."""

import asyncio
import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from corral.client.client import Client
from corral.client.kubeconfig import load
from corral.kinds import conditions
from corral.kinds.resources import CONFIG_MAPS, DEPLOYMENTS, JOBS, NODES, PODS, SERVICES, STATEFUL_SETS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, Resource

from ..leaks import leaks
from . import workloads
from .client import NAMESPACE, Users, flood, read_all, wall_clock
from .model import Figures, History, figures, violations
from .plan import TIERS, Fault, Sort, plan
from .world import World

_SETTLE_SECONDS: Final = 90.0
_START_SECONDS: Final = 60.0
_SAME_SECONDS: Final = 10.0
_JOB_EVERY: Final = 12.0
_JOB_WORK: Final = 1.5

Say = Callable[[str], None]


@dataclass
class Report:
    """What came of a run."""

    seed: int
    history: History
    figures: Figures
    alone: Figures
    """Of the faults that came while servers and etcd were well."""
    settled: float
    """Seconds from the last fault's end until everything was as it should be."""
    violations: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        written = len(self.history.writes) + len(self.history.appends)
        return [
            f"seed {self.seed}: {len(self.history.faults)} faults, {written} writes, {len(self.history.jobs)} jobs",
            *self.figures.lines(),
            *(f"servers well: {line}" for line in self.alone.lines()[:3]),
            f"healed {self.settled:.1f} s after the last fault",
            *(f"VIOLATION: {what}" for what in self.violations),
        ]


def run(seed: int, seconds: float, *, pace: float, machines: int, replicated: bool = True, say: Say) -> Report:
    """Break a cell for so many seconds, a fault every `pace`; the same seed gives the same faults. `replicated`: it has
    two servers on etcd, otherwise one on SQLite."""
    directory = Path(tempfile.mkdtemp(prefix="x", dir="/tmp"))
    world = World(directory, machines, replicated)
    try:
        world.start()
        report = asyncio.run(_Run(world, seed, seconds, pace, say).all())
        if report.violations:
            _tell_logs(world, say)
    except BaseException:
        _tell_logs(world, say)
        raise
    finally:
        left = world.stop()
        shutil.rmtree(directory)
    report.violations += [f"left behind: {where}: {sorted(what)}" for where, what in left.items()]
    return report


def _tell_logs(world: World, say: Say) -> None:
    for directory in [server.data_dir for server in world.servers.values()]:
        for log in [directory / "log" / "corral.log", *sorted(directory.glob("machines/*/log/corral.log"))]:
            if log.exists():
                say(f"--- {log}")
                say("\n".join(log.read_text(errors="replace").splitlines()[-40:]))


class _Run:
    def __init__(self, world: World, seed: int, seconds: float, pace: float, say: Say) -> None:
        self._world = world
        self._seed = seed
        self._plan = plan(world.inventory, seconds, pace, random.Random(seed))
        self._seconds = seconds
        self._say = say
        self._history = History()
        self._mending = defaultdict[str, asyncio.Lock](asyncio.Lock)
        most = {tier: max(0, world.inventory.most(next(iter(tier)))) for tier in TIERS}
        self._limits = {tier: asyncio.Semaphore(count) for tier, count in most.items()}
        self._clients = [Client(load(server.kubeconfig).transport()) for server in world.servers.values()]

    async def all(self) -> Report:
        """Everything between start and stop of the world."""
        try:
            return await self._all()
        finally:
            for client in self._clients:
                await client.close()

    async def _all(self) -> Report:
        self._now = wall_clock()
        users = Users(self._clients, self._history, self._now, self._seed)
        async with users.watching():
            await self._deploy()
            if wrong := await self._until_well(_START_SECONDS):
                raise AssertionError(f"nothing is broken yet, and after {_START_SECONDS:.0f} s {wrong}")
            began, self._now = time.time(), wall_clock()
            users.restart(self._now)
            async with users.using():
                await self._break()
            ended = self._now()
            wrong = [f"not healed: {what}" for what in await self._until_well(_SETTLE_SECONDS)]
            healed = self._now() - ended
            wrong += await self._different(users)
        await read_all(self._clients[-1], self._history)
        self._history.jobs = [workloads.ended(job) for job in (await self._clients[0].list(JOBS, NAMESPACE))["items"]]
        self._history.journal = workloads.read_journal(self._world.witness, began)
        wrong += violations(self._history)
        apps = [workloads.STATEFUL]
        alone = figures(self._history, apps, alone=True)
        return Report(self._seed, self._history, figures(self._history, apps), alone, healed, wrong)

    async def _deploy(self) -> None:
        serving, service = workloads.deployment(self._world.witness)
        await self._clients[0].create(DEPLOYMENTS, serving)
        await self._clients[0].create(SERVICES, service)
        await self._clients[0].create(STATEFUL_SETS, workloads.stateful_set(self._world.witness))

    async def _break(self) -> None:
        """Each fault at its time, and Jobs all the while."""
        async with asyncio.TaskGroup() as group:
            going = [group.create_task(self._submit()), group.create_task(self._tend())]
            await asyncio.gather(*(group.create_task(self._fault(fault)) for fault in self._plan))
            await asyncio.sleep(max(0.0, self._seconds - self._now()))
            for task in going:
                task.cancel()

    async def _tend(self) -> None:
        """Keep etcd's members running, apart from those that are broken right now."""
        while True:
            for number in await asyncio.to_thread(self._world.tend):
                self._say(f"  etcd member {number} had ended by itself")
            await asyncio.sleep(1)

    async def _fault(self, planned: Fault) -> None:
        await asyncio.sleep(max(0.0, planned.at - self._now()))
        # What takes longer to mend than was planned is not broken anew meanwhile, nor too much beside it.
        async with self._tier(planned), self._mending[planned.target]:
            began = self._now()
            self._say(str(planned))
            # A run that is broken off meanwhile leaves it to the world's stop to mend.
            mend = await asyncio.to_thread(self._world.begin, planned)
            try:
                if planned.sort is Sort.FILL_SERVER_DISK and not self._world.replicated:
                    self._say(f"  refused after {await flood(self._clients[0])} objects more: its log had room")
                await asyncio.sleep(max(0.0, began + planned.lasts - self._now()))
            finally:
                await asyncio.to_thread(mend)
            took = self._now() - began
        self._history.faults.append(Fault(began, planned.sort, planned.target, took, planned.shift))

    def _tier(self, fault: Fault) -> asyncio.Semaphore:
        return next(limit for tier, limit in self._limits.items() if fault.sort in tier)

    async def _submit(self) -> None:
        number = 0
        while True:
            number += 1
            made = workloads.job(f"job-{number}", self._world.witness, _JOB_WORK)
            await self._insist(JOBS, made)
            await asyncio.sleep(_JOB_EVERY)

    async def _insist(self, resource: Resource, obj: Obj) -> None:
        """Create it, by whichever server answers."""
        while True:
            for client in self._clients:
                try:
                    async with asyncio.timeout(3):
                        await client.create(resource, obj)
                    return
                except StatusError as error:
                    if error.reason == "AlreadyExists":
                        return
                except OSError:
                    pass
            await asyncio.sleep(0.2)

    async def _until_well(self, patience: float) -> list[str]:
        """What is not as it should be after so many seconds; returns at once when all is."""
        ends = self._now() + patience
        before: list[str] = []
        while (wrong := await self._wrong()) and self._now() < ends:
            before = wrong
            await asyncio.sleep(0.2)
        if before and not wrong:
            self._say(f"the last to become well: {'; '.join(before)}")
        return wrong

    async def _wrong(self) -> list[str]:
        """What is not as it should be."""
        try:
            async with asyncio.timeout(5):
                client = self._clients[0]
                nodes = (await client.list(NODES))["items"]
                apps = [
                    await client.get(DEPLOYMENTS, workloads.SERVING, NAMESPACE),
                    await client.get(STATEFUL_SETS, workloads.STATEFUL, NAMESPACE),
                ]
                jobs = (await client.list(JOBS, NAMESPACE))["items"]
                pods = (await client.list(PODS, NAMESPACE))["items"]
        except (OSError, StatusError) as error:
            return [f"the API does not answer: {error!r}"]
        wrong = [*_unwell_nodes(nodes, len(self._world.inventory.machines)), *_short(apps), *_unfinished(jobs, pods)]
        data_dirs = {name: self._world.data_dir(name) for name in self._world.inventory.machines}
        return wrong or await asyncio.to_thread(leaks, data_dirs, pods)

    async def _different(self, users: Users) -> list[str]:
        """Servers on which a watch does not end where the store is."""
        found = []
        for number, informer in enumerate(users.maps):
            there = _revisions((await self._clients[number].list(CONFIG_MAPS, NAMESPACE))["items"])
            deadline = self._now() + _SAME_SECONDS
            while _revisions(informer.items()) != there:
                if self._now() > deadline:
                    found.append(f"server {number}: a watch shows {_revisions(informer.items())}, a list {there}")
                    break
                await asyncio.sleep(0.05)
        return found


def _revisions(objects: Iterable[Obj]) -> dict[str, str]:
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in objects}


def _unwell_nodes(nodes: list[Any], count: int) -> list[str]:
    taints = [(node["metadata"]["name"], taint["key"]) for node in nodes for taint in node["spec"].get("taints") or ()]
    found = [f"node {node['metadata']['name']} is not Ready" for node in nodes if not conditions.is_true(node, "Ready")]
    found += [f"node {name} bears {key}" for name, key in taints]
    return [*found, *([] if len(nodes) == count else [f"{len(nodes)} of {count} nodes"])]


def _short(apps: list[Obj]) -> list[str]:
    found = []
    for app in apps:
        status, wanted = app.get("status") or {}, app["spec"]["replicas"]
        if (status.get("readyReplicas", 0), status.get("replicas", 0)) != (wanted, wanted):
            found.append(f"{app['metadata']['name']} has {status.get('readyReplicas', 0)} of {wanted} replicas ready")
    return found


def _unfinished(jobs: list[Any], pods: list[Any]) -> list[str]:
    found = [f"{job['metadata']['name']} is not complete" for job in jobs if not conditions.is_true(job, "Complete")]
    going = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" in pod["metadata"]]
    return [*found, *(f"pod {name} is still going" for name in going)]
