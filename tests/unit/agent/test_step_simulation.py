"""The pod state machine in a world that does what it likes: whatever happens, it stays sane and comes to an end."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from corral.agent.podstate import model
from corral.agent.podstate.model import Condemned, Failure, ImageSeen, Observed, VolumesSeen
from corral.agent.podstate.step import step
from corral.agent.runtime.api import Container, ContainerState, Sandbox
from corral.kinds.types import Obj

_RANK = {"Pending": 0, "Running": 1, "Succeeded": 2, "Failed": 2}


class World:
    """A machine for one pod: instructions take a while, and may fail."""

    def __init__(self, pod: Obj) -> None:
        self.pod = pod
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.seen = Observed()
        self.status: Obj = {}
        self.pending: list[model.Instruction] = []
        self.finished = False

    def decide(self) -> None:
        found = step(self.pod, self.seen, self.status, self.now)
        self.check(found.status)
        self.status = found.status
        for instruction in found.instructions:
            key = _key(instruction)
            assert key not in self.seen.busy, f"{instruction} was asked for while it was being done"
            self.seen = replace(self.seen, busy=self.seen.busy | {key})
            if isinstance(instruction, model.KillContainer):
                ends = self.now + timedelta(seconds=instruction.grace)
                self.seen = replace(self.seen, killing={**self.seen.killing, instruction.id: ends})
            if isinstance(instruction, model.PrepareVolumes | model.CreateSandbox):
                self.seen = replace(self.seen, volumes=replace(self.seen.volumes, present=True))
            self.pending.append(instruction)

    def check(self, status: Obj) -> None:
        before = self.status.get("phase", "Pending")
        assert _RANK[status["phase"]] >= _RANK[before]
        assert _RANK[before] < 2 or status["phase"] == before
        if _RANK[status["phase"]] == 2:
            assert not self.live(), "it is said to have ended, and something of it runs"
        for old in self.status.get("containerStatuses") or ():
            new = next(found for found in status["containerStatuses"] if found["name"] == old["name"])
            assert new["restartCount"] >= old["restartCount"]
        for found in status.get("containerStatuses") or ():
            assert len(found["state"]) == 1
            assert not found["ready"] or "running" in found["state"]

    def perform(self, index: int, ok: bool) -> None:
        """One of the pending instructions comes to its end."""
        instruction = self.pending.pop(index)
        self.seen = replace(self.seen, busy=self.seen.busy - {_key(instruction)})
        failure = Failure("Failed", "no luck", self.now, self.now + timedelta(seconds=5))
        seen = self.seen
        match instruction:
            case model.PrepareVolumes():
                done = VolumesSeen(True, None, True) if ok else VolumesSeen(False, failure, True)
                self.seen = replace(seen, volumes=done)
            case model.EnsureImage(name=name, attempt=attempt):
                image = ImageSeen(attempt, "sha") if ok else ImageSeen(attempt, "", failure)
                self.seen = replace(seen, images={**seen.images, name: image})
            case model.CreateSandbox(attempt=attempt):
                assert seen.sandbox is None
                box = Sandbox(f"u-{attempt}", "u", "d", "p", True, ("10.0.0.1",), self.now)
                self.seen = (
                    replace(seen, sandbox=box, sandbox_attempts=attempt + 1, sandbox_failure=None)
                    if ok
                    else replace(seen, sandbox_failure=failure)
                )
            case model.StartContainer():
                self._start(instruction, ok)
            case model.KillContainer(id=id_):
                self.exit(id_, 143)
            case model.RemoveContainer(id=id_):
                self.seen = replace(seen, containers=tuple(found for found in seen.containers if found.id != id_))
            case model.RemoveSandbox():
                self.seen = replace(seen, sandbox=None, containers=(), killing={}, condemned={})
            case model.TeardownVolumes():
                self.seen = replace(seen, volumes=VolumesSeen())
            case model.FinishPod():
                self.finished = True

    def _start(self, asked: model.StartContainer, ok: bool) -> None:
        seen, box = self.seen, self.seen.sandbox
        if box is None or not box.ready or not ok:
            failure = Failure("CreateContainerError", "no luck", self.now, self.now + timedelta(seconds=5))
            self.seen = replace(seen, start_failures={**seen.start_failures, asked.name: failure})
            return
        live = [found for found in seen.containers if found.name == asked.name]
        assert all(found.state is ContainerState.EXITED for found in live), "two live instances"
        assert all(found.attempt < asked.attempt for found in live), "an attempt was used twice"
        run = Container(
            f"{asked.name}-{asked.attempt}-{box.id}",
            box.id,
            asked.name,
            asked.attempt,
            asked.image_id,
            ContainerState.RUNNING,
            self.now,
            self.now,
        )
        self.seen = replace(
            seen,
            containers=(*seen.containers, run),
            streaks={**seen.streaks, asked.name: asked.streak},
            start_failures={name: found for name, found in seen.start_failures.items() if name != asked.name},
        )

    def exit(self, id_: str, code: int) -> None:
        ended = tuple(
            replace(found, state=ContainerState.EXITED, finished=self.now, exit_code=code)
            if found.id == id_ and found.state is ContainerState.RUNNING
            else found
            for found in self.seen.containers
        )
        self.seen = replace(self.seen, containers=ended)

    def live(self) -> list[str]:
        return [found.id for found in self.seen.containers if found.state is ContainerState.RUNNING]

    def lose_sandbox(self) -> None:
        if self.seen.sandbox is not None:
            for id_ in self.live():
                self.exit(id_, 255)
            self.seen = replace(self.seen, sandbox=replace(self.seen.sandbox, ready=False))

    def delete(self) -> None:
        deletion = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3}
        self.pod = {**self.pod, "metadata": {**self.pod["metadata"], **deletion}}


def _key(instruction: model.Instruction) -> str:
    match instruction:
        case model.PrepareVolumes():
            return model.VOLUMES
        case model.EnsureImage(name=name):
            return model.image_key(name)
        case model.CreateSandbox() | model.RemoveSandbox():
            return model.SANDBOX
        case model.StartContainer(name=name) | model.RemoveContainer(name=name):
            return model.start_key(name)
        case model.KillContainer(id=id_, grace=grace):
            return f"kill/{id_}/{grace}"
        case _:
            return type(instruction).__name__


@st.composite
def pods(draw: Any) -> Obj:
    inits = draw(st.lists(st.sampled_from(["init", "sidecar"]), max_size=3))
    mains = draw(st.integers(1, 2))
    return {
        "metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {
            "activeDeadlineSeconds": draw(st.sampled_from([None, 90])),
            "restartPolicy": draw(st.sampled_from(["Always", "OnFailure", "Never"])),
            "initContainers": [
                {"name": f"i{index}", **({"restartPolicy": "Always"} if kind == "sidecar" else {})}
                for index, kind in enumerate(inits)
            ],
            "containers": [{"name": f"m{index}"} for index in range(mains)],
        },
        "status": {},
    }


events = st.lists(
    st.tuples(
        st.sampled_from(["do", "do", "do", "fail", "exit", "crash", "doom", "lose", "wait", "gone", "evict", "clear"]),
        st.integers(0, 10),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(pods(), events)
def test_whatever_happens_it_stays_sane_and_ends_when_deleted(pod: Obj, story: list[tuple[str, int]]) -> None:
    world = World(pod)
    for event, number in story:
        world.decide()
        _happen(world, event, number)
        if world.finished:
            return
    world.delete()
    for _ in range(200):
        world.decide()
        if world.pending:
            world.perform(0, True)
        else:
            world.now += timedelta(seconds=10)
        if world.finished:
            break
    assert world.finished
    assert not world.live()
    assert world.seen.sandbox is None
    assert world.status["phase"] in ("Succeeded", "Failed")


def _happen(world: World, event: str, number: int) -> None:
    live = world.live()
    if event in ("do", "fail") and world.pending:
        world.perform(number % len(world.pending), event == "do")
    elif event in ("exit", "crash") and live:
        world.exit(live[number % len(live)], 0 if event == "exit" else 1)
    elif event == "doom" and live:
        world.seen = replace(world.seen, condemned={**world.seen.condemned, live[number % len(live)]: Condemned("x")})
    elif event == "lose":
        world.lose_sandbox()
    elif event == "wait":
        world.now += timedelta(seconds=number * 60)
    elif event == "evict" and number == 0:
        world.seen = replace(world.seen, rejected=model.Rejection("Evicted", "x", 1, disrupted=True))
    elif event == "clear":
        world.seen = replace(world.seen, unwanted=True)
    elif event == "gone" and number == 0:
        world.seen = replace(world.seen, gone=True)


@settings(max_examples=100, deadline=None)
@given(pods())
def test_a_world_without_trouble_comes_to_rest_with_everything_running(pod: Obj) -> None:
    world = World(pod)
    for _ in range(200):
        world.decide()
        if world.pending:
            world.perform(0, True)
            continue
        running = [found for found in world.live() if found.startswith("i") and not _is_sidecar(pod, found[:2])]
        if not running:
            break
        world.exit(running[0], 0)
    assert not world.pending
    assert world.status["phase"] == "Running"
    assert {found[:2] for found in world.live()} >= {"m0"}


def _is_sidecar(pod: Obj, name: str) -> bool:
    return any(found["name"] == name and "restartPolicy" in found for found in pod["spec"]["initContainers"])
