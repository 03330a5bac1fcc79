"""Where workloads would go, if they were created now: `corral plan`.

Each workload, and one pod of it, goes to the API server as a dry run (dryrun.py), so that defaults, admission and
refusals are those of a real create. What came back is multiplied (expand.py) and tried on a copy of the scheduler's
snapshot (trial.py), in steps between which everybody else gets a turn. Nothing is created.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from corral.client.client import Client
from corral.kinds.bundled.queues import QUEUE_LABEL
from corral.kinds.podgroups import group_of_job, key_of_group, minimum_of
from corral.kinds.resources import JOBS, PERSISTENT_VOLUME_CLAIMS
from corral.kinds.status import Cause, StatusError, bad_request, invalid
from corral.kinds.storage import read_claim
from corral.kinds.types import Key, Obj, key_of
from corral.scheduler import expand
from corral.scheduler.dryrun import COMPANIONS, DryRun
from corral.scheduler.podclass import PodClass
from corral.scheduler.scheduler import Scheduler
from corral.scheduler.standing import Standing
from corral.scheduler.trial import Trial
from corral.scheduler.trim import trim_pod

GROUP = "corral.dev"
MOST_PODS = 20_000
"""Of one plan."""
STEP = 50
"""Pods decided between two turns of the event loop, about 5 ms."""
_EXPLAINED = 20
"""Refused classes of pods that are explained: a person reads no more."""
_UNTOLD: Obj = {"message": "see the other reasons first", "closest": None, "hints": [], "would_help": []}


_Refusal: TypeAlias = tuple[PodClass | bytes, str]
"""The class of a refused pod, or, if its gang lacks something, what it asks of a machine and what that is: those are
told together."""


@dataclass(slots=True)
class _Planned:
    """A workload and its pods, under keys that no real pod can have."""

    workload: Obj
    pods: dict[Key, Obj]
    notes: list[str]
    there: Standing
    unserved: str = ""
    """Why nobody would even look at its pods."""


class Planner:
    """Makes plans, one at a time.

    Args:
        client: may create every pod, as the controllers of workloads together may.
    """

    def __init__(self, scheduler: Scheduler, client: Client) -> None:
        self._scheduler = scheduler
        self._client = client
        self._busy = asyncio.Lock()

    async def plan(self, objects: Sequence[Obj], namespace: str, user: Client) -> Obj:
        """Where `objects` would go; plain JSON data.

        Args:
            namespace: of objects that name none.
            user: a client that acts as whoever asks: who may not create a workload may not plan it either.

        Returns:
            `fits`, and `workloads` in the order of `objects`: `kind`, `namespace`, `name`, `pods`, `placed`,
            `machines` (name to pods), `assignments` (`pod`, `node`, `preempts`), `refused` (`pods`, `message`,
            `closest`, `hints`, `would_help`) and `notes`.

        Raises:
            StatusError: 422, objects are no workloads or would be refused (the fields of its causes are
                `items[index]`); 400, there are too many pods.
        """
        await self._scheduler.synced.wait()
        async with self._busy:
            planned, groups = await self._admit(objects, DryRun(user, self._client, namespace))
            served = [one for one in planned if not one.unserved]
            await asyncio.sleep(0)
            trial = self._scheduler.trial(
                ((key, pod) for one in served for key, pod in one.pods.items()),
                gone=[key_of(pod) for one in planned if not one.there.stay for pod in one.there.pods],
            )
            for group in groups:
                if group["kind"] == PERSISTENT_VOLUME_CLAIMS.kind:
                    trial.put_claim(read_claim(group))
                    continue
                trial.gangs.put(key_of_group(group), minimum_of(group))
            for one in planned:
                own = group_of_job(one.workload) if one.workload["kind"] == JOBS.kind else None
                if own is not None and trial.gangs.is_missing(own[0]):
                    trial.gangs.put(*own)
            await asyncio.sleep(0)
            for _ in trial.steps(STEP):
                await asyncio.sleep(0)
            return await self._report(planned, trial)

    async def _admit(self, objects: Sequence[Obj], dry_run: DryRun) -> tuple[list[_Planned], list[Obj]]:
        """The workloads among `objects` with their pods, and the groups that pods may belong to."""
        nodes = self._scheduler.nodes()
        planned: list[_Planned] = []
        groups: list[Obj] = []
        causes: list[Cause] = []
        # What pods lean on comes first, wherever it stands.
        for index, obj in sorted(enumerate(objects), key=lambda item: _turn(item[1])):
            try:
                if await dry_run.companion(obj):
                    continue
                group = await dry_run.group(obj)
                if group is not None:
                    groups.append(group)
                    continue
                workload, pod, there = await dry_run.workload(obj)
            except StatusError as error:
                causes.append(Cause("FieldValueInvalid", error.message, f"items[{index}]"))
                continue
            if expand.size(workload, nodes) + sum(len(one.pods) for one in planned) > MOST_PODS:
                raise bad_request(f"cannot plan more than {MOST_PODS} pods at once: plan fewer workloads or replicas")
            wanted = expand.pods(workload, expand.without_own_claims(trim_pod(pod)), nodes)
            new = expand.missing(workload, wanted, there.pods if there.stay else ())
            space = pod["metadata"]["namespace"]
            pods = {Key(space, f"{index}/{name}"): each for name, each in new.items()}
            notes = list(_notes(workload, pod, there))
            planned.append(_Planned(workload, pods, notes, there, self._unserved(pod)))
            await asyncio.sleep(0)
        if causes:
            raise invalid(GROUP, "Plan", "", causes)
        return planned, groups

    async def _report(self, planned: Sequence[_Planned], trial: Trial) -> Obj:
        stories: dict[_Refusal, Obj] = {}
        for one in planned:
            for key in one.pods:
                refusal = _refusal(trial, key)
                if refusal is not None and refusal not in stories and len(stories) < _EXPLAINED:
                    stories[refusal] = trial.explain(key)
                    await asyncio.sleep(0)
        return {
            "kind": "Plan",
            "apiVersion": f"{GROUP}/v1",
            "fits": not trial.refused and not any(one.unserved and one.pods for one in planned),
            "workloads": [_workload(one, trial, stories) for one in planned],
        }

    def _unserved(self, pod: Obj) -> str:
        name, names = pod["spec"].get("schedulerName") or "", sorted(self._scheduler.names)
        if not name or name in names:
            return ""
        return f"the pod asks for the scheduler {name!r}; this cell's answers to {', '.join(names)}"


def _turn(obj: Obj) -> int:
    kind = str(obj.get("apiVersion")), str(obj.get("kind"))
    return list(COMPANIONS).index(kind) if kind in COMPANIONS else len(COMPANIONS)


def _notes(workload: Obj, pod: Obj, there: Standing) -> Iterator[str]:
    """What a person should know who reads the plan."""
    if there.pods and there.stay:
        yield f"{_count(there.pods)} of it there already and would stay: only what it lacks is planned"
    elif there.pods:
        yield f"{_count(there.pods)} of it there already and would be replaced: this is where things end"
    queue = (workload["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    if queue:
        yield f"it goes through the queue {queue}: this is where its pods go once that admits it"
    elif workload["spec"].get("suspend"):
        yield "it is suspended: this is where its pods go once it is resumed"
    gates = [gate["name"] for gate in pod["spec"].get("schedulingGates") or ()]
    if gates:
        yield f"its pods wait for their scheduling gates to be removed first: {', '.join(gates)}"


def _refusal(trial: Trial, key: Key) -> _Refusal | None:
    pod_class, lacks = trial.refused.get(key), trial.lacks.get(key, "")
    return None if pod_class is None else (pod_class.alone if lacks else pod_class, lacks)


def _workload(one: _Planned, trial: Trial, stories: Mapping[_Refusal, Obj]) -> Obj:
    metadata = one.workload["metadata"]
    assignments = [
        {"pod": _name(key), "node": place.node, "preempts": [str(victim) for victim in place.victims]}
        for key in one.pods
        if (place := trial.places.get(key)) is not None
    ]
    return {
        "kind": one.workload["kind"],
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "pods": len(one.pods),
        "placed": len(assignments),
        "machines": dict(sorted(Counter(str(each["node"]) for each in assignments).items())),
        "assignments": assignments,
        "refused": _refused(one, trial, stories),
        "notes": one.notes,
    }


def _refused(one: _Planned, trial: Trial, stories: Mapping[_Refusal, Obj]) -> list[Obj]:
    """The pods that go nowhere, those together that do for the same reasons."""
    if one.unserved:
        return [{"pods": [_name(key) for key in one.pods], **_UNTOLD, "message": one.unserved}] if one.pods else []
    refused: dict[_Refusal, list[str]] = {}
    for key in one.pods:
        refusal = _refusal(trial, key)
        if refusal is not None:
            refused.setdefault(refusal, []).append(_name(key))
    return [{"pods": names, **stories.get(refusal, _UNTOLD)} for refusal, names in refused.items()]


def _count(pods: Sequence[Obj]) -> str:
    return "1 pod is" if len(pods) == 1 else f"{len(pods)} pods are"


def _name(key: Key) -> str:
    """The pod's own name, without what keeps its key apart from those of real pods."""
    return key.name.partition("/")[2]
