"""An agent that loses its server: what yields is killed in time, what stays goes on, and what is wanted comes back."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corral.agent import watchman
from corral.agent.guard import Guard
from corral.client.api import ApiRequest, ApiResponse
from corral.kinds.health import DEFAULT, FENCED, NO_ROOM, PROMISE, SILENCE, STORE_BROKEN, TERMS, write_terms
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/m1"
FILE = "fence.json"
STAYS = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
_terms = DEFAULT.terms(2, sole=False)
_TERMS = write_terms(_terms) if _terms is not None else ""


def note(rig: Any, **changes: str | None) -> None:
    """What the server writes on the lease."""
    lease = rig.api.objects[LEASE]
    annotations = {**(lease["metadata"].get("annotations") or {}), **changes}
    kept = {name: text for name, text in annotations.items() if text is not None}
    rig.api.put(LEASE, {**lease, "metadata": {**lease["metadata"], "annotations": kept}})


@pytest.fixture
async def armed(rig: Any) -> Any:
    """An agent that has promised, with a pod that yields and one that stays."""
    await rig.agent.stop()
    rig.agent = rig.build(fences=True)
    await rig.agent.start()
    rig.add_pod("moves")
    rig.add_pod("stays", tolerations=[STAYS])
    note(rig, **{TERMS: _TERMS})
    await rig.advance(3)
    assert rig.api.objects[LEASE]["metadata"]["annotations"][PROMISE] == "7"
    assert rig.api.objects[LEASE]["spec"]["leaseDurationSeconds"] == 4
    return rig


def running(rig: Any) -> set[str]:
    """Names of the pods with a container that runs."""
    return {
        worker.key.name
        for worker in rig.agent._workers.values()
        if any(container.state.value == "running" for container in worker.seen.containers)
    }


async def test_what_yields_is_killed_in_time_and_comes_back(armed: Any) -> None:
    assert running(armed) == {"moves", "stays"}
    armed.api.down = True
    await armed.advance(3)
    assert running(armed) == {"moves", "stays"}, "a short silence does nothing"
    await armed.advance(2.5)
    assert running(armed) == {"stays"}
    await armed.advance(60)
    assert running(armed) == {"stays"}
    armed.api.down = False
    await armed.advance(30)
    assert running(armed) == {"moves", "stays"}
    assert armed.main("moves")["restartCount"] == 1
    assert armed.main("stays")["restartCount"] == 0


@pytest.mark.parametrize(
    ("code", "reason", "sole", "runs"),
    [
        (507, NO_ROOM, True, {"moves", "stays"}),
        (500, STORE_BROKEN, True, {"moves", "stays"}),
        (500, "InternalError", True, {"stays"}),
        (507, NO_ROOM, False, {"stays"}),
    ],
)
async def test_a_single_server_that_cannot_write_stops_nothing(
    armed: Any, monkeypatch: pytest.MonkeyPatch, code: int, reason: str, sole: bool, runs: set[str]
) -> None:
    terms = DEFAULT.terms(2, sole=sole)
    assert terms is not None
    note(armed, **{TERMS: write_terms(terms)})
    await armed.advance(3)
    answer = armed.api._answer

    def reads_only(request: ApiRequest) -> Obj:
        if request.method != "GET":
            raise StatusError(code, reason, "cannot write")
        found: Obj = answer(request)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(armed.api, "_answer", reads_only)
        await armed.advance(60)
        assert running(armed) == runs
    await armed.advance(30)
    assert running(armed) == {"moves", "stays"}
    assert armed.main("moves")["restartCount"] == (runs == {"stays"})

    async def lost(request: ApiRequest) -> ApiResponse:
        raise ConnectionResetError

    monkeypatch.setattr(armed.api, "call", lost)
    await armed.advance(8)
    assert running(armed) == {"stays"}, "it counts again"


async def test_an_agent_that_has_lost_its_lease_keeper_makes_way(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    restarts: list[bool] = []
    await rig.agent.stop()
    rig.agent = rig.build(fences=True, restart=lambda: restarts.append(True))
    await rig.agent.start()
    await rig.advance(3)
    assert not restarts

    async def torn(request: ApiRequest) -> ApiResponse:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(rig.api, "call", torn)
        await rig.advance(12)
    assert restarts == [True]
    await rig.agent.stop()
    rig.agent = rig.build(fences=True, restart=lambda: restarts.append(True))
    await rig.agent.start()
    await rig.agent.stop()
    await rig.agent.start()
    assert restarts == [True], "one that is stopped is not restarted"


async def test_a_fenced_machine_waits_until_the_word_is_taken_back(armed: Any) -> None:
    armed.api.down = True
    await armed.advance(10)
    armed.api.down = False
    note(armed, **{SILENCE: FENCED})
    await armed.advance(40)
    assert running(armed) == {"stays"}
    note(armed, **{SILENCE: None})
    await armed.advance(40)
    assert running(armed) == {"moves", "stays"}


async def test_what_is_gone_stays_dead(armed: Any) -> None:
    armed.api.down = True
    await armed.advance(10)
    key = "/api/v1/namespaces/default/pods/moves"
    # The watch does not tell: it hangs, as after a cut it may.
    watchers, armed.api._watchers = armed.api._watchers, []
    armed.api.remove(key, {})
    armed.api._watchers = watchers
    armed.api.down = False
    await armed.advance(30)
    assert running(armed) == {"stays"}


async def test_a_missed_machine_reports_at_once(armed: Any) -> None:
    armed.api.calls.clear()
    note(armed, **{SILENCE: "suspected"})
    await armed.advance(2)
    assert ("PATCH", "/api/v1/nodes/m1/status") in armed.api.calls


async def test_a_slower_pace_is_said_before_it_is_taken(armed: Any) -> None:
    note(armed, **{TERMS: None})
    await armed.advance(1.5)
    lease = armed.api.objects[LEASE]
    assert lease["spec"]["leaseDurationSeconds"] == 40
    assert PROMISE not in lease["metadata"]["annotations"]
    armed.api.down = True
    await armed.advance(300)
    assert running(armed) == {"moves", "stays"}, "nothing is promised any more"


async def test_without_terms_nothing_is_promised_and_nothing_is_killed(rig: Any) -> None:
    await rig.agent.stop()
    rig.agent = rig.build(fences=True)
    await rig.agent.start()
    rig.add_pod("moves")
    await rig.advance(3)
    rig.api.down = True
    await rig.advance(300)
    assert running(rig) == {"moves"}


@pytest.mark.parametrize(("sole", "late"), [(True, False), (False, False), (True, True)])
async def test_an_agent_that_begins_while_the_only_server_is_down_keeps_its_pods(
    armed: Any, sole: bool, late: bool
) -> None:
    terms = DEFAULT.terms(2, sole=sole)
    assert terms is not None
    note(armed, **{TERMS: write_terms(terms)})
    await armed.advance(3)
    file = armed.agent._guard._file
    said, _ = watchman.read(file)
    assert said["spare"] == ["u-stays"]
    await armed.agent.stop()
    armed.api.refuses = True
    due = watchman.now() + (-0.1 if late else 100.0)
    os.utime(file, ns=(round(due * 1e9), round(due * 1e9)))
    armed.agent = armed.build(fences=True)
    starting = asyncio.create_task(armed.agent.start())
    await armed.advance(3)
    now, until = watchman.read(file)
    assert now["spare"] == ["u-stays"], "they are not known yet, but to the agent before"
    assert until is not None
    if sole and not late:
        assert 0 < until - watchman.now() <= 6.0, "the promise counts from when the port refused"
    else:
        assert until == pytest.approx(due), "somebody may have started them elsewhere"
    armed.api.refuses = False
    await armed.advance(5)
    await starting
    assert running(armed) == {"moves", "stays"}


def group(directory: Path, uid: str) -> subprocess.Popen[bytes]:
    """A process, and the control group of a pod that says so."""
    process = subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(60)"])
    inner = directory / f"pod-{uid}" / "c"
    inner.mkdir(parents=True)
    (inner / "cgroup.procs").write_text(f"{process.pid}\n")
    return process


def test_the_watchman_kills_what_yields_once_its_time_is_over(tmp_path: Path) -> None:
    yields, spared = group(tmp_path / "cell", "a"), group(tmp_path / "cell", "b")
    guard = Guard(tmp_path / FILE, [str(tmp_path / "cell")], lambda: ["b"])
    try:
        guard.watch(60.0)
        assert yields.poll() is None
        guard.watch(0.05)
        assert yields.wait(20) == -signal.SIGKILL
        (tmp_path / "cell" / "pod-a" / "c" / "cgroup.procs").write_text("")
        assert spared.poll() is None
    finally:
        for process in (yields, spared):
            process.kill()
            process.wait()
        (tmp_path / FILE).unlink()
    assert guard._process is not None
    assert guard._process.wait(20) == 0, "a watchman without a file ends"


def test_a_younger_watchman_takes_over(tmp_path: Path) -> None:
    guards = [Guard(tmp_path / FILE, ["/none"], list) for _ in range(2)]
    for guard in guards:
        guard.watch(60.0)
        wanted = guard._process
        assert wanted is not None
        _until_written(tmp_path / (FILE + ".pid"), str(wanted.pid))
    older, younger = (guard._process for guard in guards)
    assert older is not None
    assert younger is not None
    assert older.wait(20) == 0
    assert younger.poll() is None
    (tmp_path / FILE).unlink()
    assert younger.wait(20) == 0


def _until_written(file: Path, text: str) -> None:
    deadline = watchman.now() + 20
    while not file.exists() or file.read_text() != text:
        assert watchman.now() < deadline
        os.sched_yield()


def test_the_file_says_what_the_watchman_reads(tmp_path: Path) -> None:
    guard = Guard(tmp_path / FILE, [], lambda: ["b", "a"])
    guard.watch(5.0)
    said, until = watchman.read(tmp_path / FILE)
    assert said == {"groups": [], "spare": ["a", "b"], "anew": None}
    assert until is not None
    assert 0 < until - watchman.now() < 5.1
    guard.watch(None)
    assert watchman.read(tmp_path / FILE) == (said, None)


def test_a_full_disk_does_not_keep_all_from_being_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spared = ["a"]
    guard = Guard(tmp_path / FILE, [], lambda: spared)
    guard.watch(None)
    _fill(monkeypatch)
    spared.append("b")
    guard.watch(50.0)
    said, until = watchman.read(tmp_path / FILE)
    assert said["spare"] == ["a"]
    assert until is not None
    assert until - watchman.now() > 40
    with pytest.raises(OSError, match="No space"):
        Guard(tmp_path / "new" / FILE, [], list).watch(5.0)
    monkeypatch.undo()
    guard.watch(50.0)
    assert watchman.read(tmp_path / FILE)[0]["spare"] == ["a", "b"]


def _fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes a file finds no space for it."""

    def write(self: Path, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_text", write)
