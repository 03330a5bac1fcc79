"""Lives of pods in detail: hooks, probes, last words, tokens, init containers, grace, defects."""

import signal
from pathlib import Path
from typing import Any

import pytest

from corral.agent.layout import sandbox_id
from corral.agent.runtime.api import SandboxSpec
from corral.agent.worker import PodWorker
from corral.kinds.types import Obj


def container(**fields: Any) -> Obj:
    return {"name": "main", "image": "host", "command": ["sleep", "3600"], **fields}


def id_of(rig: Any, name: str = "web") -> str:
    found: str = rig.main(name)["containerID"].removeprefix("corral://")
    return found


async def test_pre_stop_runs_before_the_container_is_stopped(rig: Any) -> None:
    lifecycle = {"preStop": {"exec": {"command": ["true"]}}}
    key = rig.add_pod(containers=[container(lifecycle=lifecycle)])
    await rig.settled()
    run = id_of(rig)
    rig.runtime.calls.clear()
    rig.api.mark_deleted(key, grace=5)
    await rig.settled()
    kinds = [call for call, subject in rig.runtime.calls if subject == run]
    assert kinds[:2] == ["exec", "stop_container"]
    await rig.advance(6)
    assert key not in rig.api.objects


async def test_a_post_start_hook_that_fails_restarts_the_container(rig: Any) -> None:
    rig.add_pod(containers=[container(lifecycle={"postStart": {"exec": {"command": ["false"]}}})])
    await rig.settled()
    assert rig.main()["restartCount"] >= 1
    assert "FailedPostStartHook" in {reason for reason, _ in rig.events()}


async def test_a_post_start_hook_delays_started(rig: Any) -> None:
    rig.add_pod(containers=[container(lifecycle={"postStart": {"sleep": {"seconds": 4}}})])
    await rig.settled()
    assert (rig.status()["phase"], rig.main()["started"]) == ("Running", False)
    await rig.advance(4.1)
    assert (rig.main()["started"], rig.main()["ready"]) == (True, True)


async def test_a_failed_liveness_probe_restarts_the_container(rig: Any) -> None:
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 2}
    rig.add_pod(containers=[container(livenessProbe=probe)], terminationGracePeriodSeconds=2)
    await rig.settled()
    await rig.advance(1.1)
    await rig.advance(2.1)
    assert rig.main()["restartCount"] == 1
    told = rig.events()
    assert ("Killing", "Container main failed liveness probe, will be restarted") in told
    assert "Unhealthy" in {reason for reason, _ in told}


async def test_a_pod_is_ready_when_its_probe_says_so_and_stays_so_over_an_agent_restart(rig: Any) -> None:
    rig.add_pod(containers=[container(readinessProbe={"exec": {"command": ["true"]}, "initialDelaySeconds": 5})])
    await rig.settled()
    assert rig.main()["ready"] is False
    await rig.advance(5.1)
    assert rig.main()["ready"] is True
    await rig.agent.stop()
    rig.agent = rig.build()
    rig.api.statuses.clear()
    await rig.agent.start()
    await rig.settled()
    assert rig.main()["ready"] is True
    assert rig.api.statuses == []


async def test_a_sandbox_whose_agent_was_killed_before_its_files_were_written_gets_them(rig: Any) -> None:
    await rig.agent.stop()
    box = sandbox_id("u-web", 0)
    await rig.runtime.create_sandbox(SandboxSpec(box, "u-web", "default", "web", "web"))
    rig.add_pod()
    rig.agent = rig.build()
    await rig.agent.start()
    await rig.settled()
    assert rig.status()["phase"] == "Running"
    assert [found.id for found in await rig.runtime.sandboxes()] == [box]
    etc = rig.agent.layout.etc("u-web")
    assert rig.status()["podIP"] in (etc / "hosts").read_text()
    assert (etc / "hostname").read_text() == "web\n"
    assert (etc / "resolv.conf").exists()


@pytest.mark.parametrize(
    ("policy", "code", "message"), [("File", 1, ""), ("FallbackToLogsOnError", 1, "from the log\n")]
)
async def test_last_words(rig: Any, policy: str, code: int, message: str) -> None:
    rig.add_pod(restartPolicy="Never", containers=[container(terminationMessagePolicy=policy)])
    await rig.settled()
    log = Path(rig.runtime.spec(id_of(rig)).log_path)
    log.write_text("2026-01-01T00:00:00Z stderr F from the log\n")
    rig.runtime.finish(id_of(rig), code)
    await rig.settled()
    assert rig.main()["state"]["terminated"].get("message", "") == message


async def test_last_words_are_read_from_their_file_but_never_through_a_link(rig: Any) -> None:
    rig.add_pod("plain", restartPolicy="Never")
    rig.add_pod("sly", restartPolicy="Never")
    await rig.settled()
    rig.agent.layout.termination_log("u-plain", "main", 0).write_text("goodbye")
    sly = rig.agent.layout.termination_log("u-sly", "main", 0)
    sly.unlink()
    sly.symlink_to("/etc/hostname")
    rig.runtime.finish(id_of(rig, "plain"), 1)
    rig.runtime.finish(id_of(rig, "sly"), 1)
    await rig.settled()
    assert rig.main("plain")["state"]["terminated"]["message"] == "goodbye"
    assert "message" not in rig.main("sly")["state"]["terminated"]


async def test_tokens_are_renewed_at_80_percent_of_their_life(rig: Any) -> None:
    source = {"serviceAccountToken": {"path": "token"}}
    rig.add_pod(volumes=[{"name": "api", "projected": {"sources": [source]}}])
    await rig.settled()
    file = rig.agent.layout.volume("u-web", "api") / "token"
    first = file.read_text()
    await rig.advance(2870)
    assert file.read_text() == first
    await rig.advance(20)
    assert file.read_text() != first


async def test_init_containers_and_sidecars(rig: Any) -> None:
    init = [
        {"name": "setup", "image": "host", "command": ["true"]},
        {"name": "proxy", "image": "host", "command": ["sleep", "9"], "restartPolicy": "Always"},
    ]
    rig.add_pod(initContainers=init, restartPolicy="Never")
    await rig.settled()
    statuses = rig.status()["initContainerStatuses"]
    assert statuses[0]["state"]["terminated"]["reason"] == "Completed"
    assert statuses[1]["started"] is True
    assert rig.status()["phase"] == "Running"
    rig.runtime.finish(id_of(rig), 0)
    await rig.settled()
    await rig.advance(31)
    assert rig.status()["phase"] == "Succeeded"


async def test_less_grace_ends_a_stubborn_container_sooner(rig: Any) -> None:
    key = rig.add_pod(containers=[container(command=["sleep", "100000"])])
    await rig.settled()
    rig.runtime.process(id_of(rig)).ignored_signals.add(signal.SIGTERM)
    rig.api.mark_deleted(key, grace=600)
    await rig.settled()
    rig.api.mark_deleted(key, grace=0)
    await rig.settled()
    await rig.advance(1)
    assert key not in rig.api.objects


async def test_a_deadline_ends_the_pod(rig: Any) -> None:
    rig.add_pod(activeDeadlineSeconds=60)
    await rig.settled()
    await rig.advance(60.1)
    await rig.advance(31)
    assert (rig.status()["phase"], rig.status()["reason"]) == ("Failed", "DeadlineExceeded")


async def test_a_deletion_does_not_wait_for_an_image(rig: Any) -> None:
    key = rig.add_pod(containers=[container(image="example.com/large:1")])

    async def never(reference: str, auths: Any = ()) -> Any:
        await rig.clock.sleep(1e9)

    rig.runtime.images.pull = never
    await rig.settled()
    rig.api.mark_deleted(key)
    await rig.settled()
    assert key not in rig.api.objects


async def test_dead_containers_are_collected_and_the_count_goes_on(rig: Any) -> None:
    rig.add_pod(containers=[container(command=["false"])])
    await rig.settled()
    for _ in range(4):
        await rig.advance(60)
    count = rig.main()["restartCount"]
    assert count >= 3
    assert len(await rig.runtime.containers()) <= 2
    assert rig.main()["lastState"]["terminated"]["exitCode"] == 1


async def test_a_worker_with_a_defect_is_replaced(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.add_pod()
    await rig.settled()
    run = id_of(rig)
    real = PodWorker._decide
    failures = ["once"]

    def broken(self: PodWorker) -> Any:
        if failures:
            failures.pop()
            raise KeyError("a defect")
        return real(self)

    monkeypatch.setattr(PodWorker, "_decide", broken)
    rig.agent.worker("default", "web").objects_changed()
    await rig.settled()
    await rig.advance(11)
    rig.runtime.finish(run, 1)
    await rig.settled()
    assert rig.main()["restartCount"] == 1


async def test_an_idle_pod_does_nothing(rig: Any) -> None:
    rig.add_pod()
    await rig.settled()
    rig.api.calls.clear()
    rig.runtime.calls.clear()
    await rig.advance(5)
    assert rig.api.calls == []
    assert rig.runtime.calls == []
