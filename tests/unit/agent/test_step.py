"""The pod state machine: tables of what is seen and what must follow."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from corral.agent.podstate import model
from corral.agent.podstate.model import (
    Condemned,
    CreateSandbox,
    EnsureImage,
    Failure,
    FinishPod,
    ImageSeen,
    KillContainer,
    Note,
    Observed,
    PrepareVolumes,
    ProbeSeen,
    RemoveContainer,
    RemoveSandbox,
    StartContainer,
    TeardownVolumes,
    VolumesSeen,
)
from corral.agent.podstate.step import step
from corral.agent.runtime.api import Container, ContainerState, Sandbox
from corral.kinds.types import Obj

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BOX = Sandbox("u1-0", "u1", "default", "web", True, ("10.0.0.5",), NOW)


def pod(*containers: Obj, init: list[Obj] | None = None, **spec: Any) -> Obj:
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
        "spec": {
            "containers": list(containers) or [{"name": "main", "image": "img"}],
            **({"initContainers": init} if init else {}),
            "restartPolicy": "Always",
            **spec,
        },
        "status": {},
    }


def deleting(obj: Obj, grace: int = 30) -> Obj:
    metadata = {**obj["metadata"], "deletionTimestamp": "2026-01-01T12:00:00Z", "deletionGracePeriodSeconds": grace}
    return {**obj, "metadata": metadata}


def running(name: str = "main", attempt: int = 0, since: timedelta = timedelta(), box: str = "u1-0") -> Container:
    began = NOW - since
    return Container(f"{name}-{attempt}", box, name, attempt, "sha", ContainerState.RUNNING, began, began)


def exited(
    name: str = "main",
    attempt: int = 0,
    code: int = 0,
    *,
    ago: float = 0,
    ran: float = 1,
    box: str = "u1-0",
    oom: bool = False,
) -> Container:
    finished = NOW - timedelta(seconds=ago)
    began = finished - timedelta(seconds=ran)
    return Container(
        f"{name}-{attempt}", box, name, attempt, "sha", ContainerState.EXITED, began, began, finished, code, oom
    )


def seen(*containers: Container, images: dict[str, int] | None = None, **more: Any) -> Observed:
    """A pod whose sandbox and volumes are there; `images` is name -> attempt."""
    have = {name: ImageSeen(attempt, "sha") for name, attempt in (images or {}).items()}
    ready: dict[str, Any] = {"sandbox": BOX, "sandbox_attempts": 1, "volumes": VolumesSeen(True, None, True)}
    return Observed(containers=containers, images=have, **{**ready, **more})


def state(status: Obj, name: str = "main", field: str = "containerStatuses") -> Obj:
    found: Obj = next(item for item in status[field] if item["name"] == name)
    return found


def condition(status: Obj, type_: str) -> Obj:
    found: Obj = next(item for item in status["conditions"] if item["type"] == type_)
    return found


# Starting.


def test_a_new_pod_gets_volumes_sandbox_and_image_at_once() -> None:
    found = step(pod(), Observed(), {}, NOW)
    assert set(found.instructions) == {PrepareVolumes(), CreateSandbox(0), EnsureImage("main", 0)}
    assert found.status["phase"] == "Pending"
    assert state(found.status)["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert found.status["startTime"] == "2026-01-01T12:00:00Z"


def test_nothing_is_asked_for_twice() -> None:
    busy = frozenset({model.VOLUMES, model.SANDBOX, model.image_key("main")})
    assert step(pod(), Observed(busy=busy), {}, NOW).instructions == ()


def test_a_container_starts_when_everything_is_there() -> None:
    found = step(pod(), seen(images={"main": 0}), {}, NOW)
    assert found.instructions == (StartContainer("main", 0, "sha", 0),)


@pytest.mark.parametrize(
    "lacking",
    [
        {"sandbox": None, "busy": frozenset({model.SANDBOX})},
        {"volumes": VolumesSeen(), "busy": frozenset({model.VOLUMES})},
        {"images": {}, "busy": frozenset({model.image_key("main")})},
    ],
)
def test_a_container_waits_for_each_of_them(lacking: dict[str, Any]) -> None:
    assert step(pod(), replace(seen(images={"main": 0}), **lacking), {}, NOW).instructions == ()


def test_running_is_reported_with_addresses_and_ids() -> None:
    found = step(pod(), seen(running()), {}, NOW, host_addresses=("192.0.2.9",))
    status = found.status
    assert found.instructions == ()
    assert status["phase"] == "Running"
    assert (status["podIP"], status["hostIP"]) == ("10.0.0.5", "192.0.2.9")
    assert state(status)["containerID"] == "corral://main-0"
    assert state(status)["ready"] is True
    assert {item["type"]: item["status"] for item in status["conditions"]} == {
        "PodReadyToStartContainers": "True",
        "Initialized": "True",
        "Ready": "True",
        "ContainersReady": "True",
        "PodScheduled": "True",
    }


def test_one_of_two_containers_running_is_still_pending() -> None:
    found = step(pod({"name": "a"}, {"name": "b"}), seen(running("a"), busy=frozenset({"image/b"})), {}, NOW)
    assert found.status["phase"] == "Pending"


def test_host_network_pods_have_the_machines_addresses() -> None:
    found = step(pod(hostNetwork=True), seen(running()), {}, NOW, host_addresses=("192.0.2.9",))
    assert found.status["podIP"] == "192.0.2.9"


# Restarting.


@pytest.mark.parametrize(
    ("policy", "code", "phase", "again"),
    [
        ("Always", 0, "Running", True),
        ("Always", 1, "Running", True),
        ("OnFailure", 0, "Succeeded", False),
        ("OnFailure", 3, "Running", True),
        ("Never", 0, "Succeeded", False),
        ("Never", 3, "Failed", False),
    ],
)
def test_restart_policies(policy: str, code: int, phase: str, again: bool) -> None:
    found = step(pod(restartPolicy=policy), seen(exited(code=code), images={"main": 1}), {"phase": "Running"}, NOW)
    assert found.status["phase"] == phase
    assert found.instructions == ((StartContainer("main", 1, "sha", 1),) if again else ())
    assert state(found.status)["state"]["terminated"]["exitCode"] == code
    assert state(found.status)["state"]["terminated"]["reason"] == ("Error" if code else "Completed")


def test_restart_policy_rules_restart_by_exit_code() -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    subject = pod({"name": "main", "restartPolicy": "Never", "restartPolicyRules": rules}, restartPolicy="Never")
    assert step(subject, seen(exited(code=42), images={"main": 1}), {}, NOW).instructions
    assert step(subject, seen(exited(code=1), images={"main": 1}), {}, NOW).status["phase"] == "Failed"


@pytest.mark.parametrize(("streak", "delay"), [(1, 10), (2, 20), (3, 40), (5, 160), (6, 300), (20, 300)])
def test_crash_back_off_doubles_to_five_minutes(streak: int, delay: int) -> None:
    crashed = seen(exited(attempt=streak, code=1, ago=1), images={"main": streak + 1}, streaks={"main": streak})
    found = step(pod(), crashed, {"phase": "Running"}, NOW)
    assert found.instructions == ()
    assert found.wake_at == NOW + timedelta(seconds=delay - 1)
    waiting = state(found.status)["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    assert state(found.status)["lastState"]["terminated"]["exitCode"] == 1
    assert state(found.status)["restartCount"] == streak
    later = step(pod(), crashed, found.status, NOW + timedelta(seconds=delay - 1))
    assert later.instructions == (StartContainer("main", streak + 1, "sha", streak + 1),)


def test_ten_quiet_minutes_reset_the_back_off() -> None:
    crashed = seen(exited(attempt=7, code=1, ran=601), images={"main": 8}, streaks={"main": 7})
    assert step(pod(), crashed, {}, NOW).instructions == (StartContainer("main", 8, "sha", 1),)


def test_an_image_is_ensured_for_each_attempt() -> None:
    found = step(pod(), seen(exited(code=1), images={"main": 0}), {}, NOW)
    assert found.instructions == (EnsureImage("main", 1),)


def test_oom_and_last_words_are_reported() -> None:
    notes = {"main-0": Note(message="last words")}
    found = step(pod(restartPolicy="Never"), seen(exited(code=137, oom=True), notes=notes), {}, NOW)
    terminated = state(found.status)["state"]["terminated"]
    assert (terminated["reason"], terminated["message"]) == ("OOMKilled", "last words")


# Waiting.


def failure(reason: str, ago: float, retry: float = 10) -> Failure:
    at = NOW - timedelta(seconds=ago)
    return Failure(reason, "no such thing", at, at + timedelta(seconds=retry))


@pytest.mark.parametrize(("ago", "reason"), [(0, "ErrImagePull"), (1.5, "ImagePullBackOff")])
def test_image_pull_back_off(ago: float, reason: str) -> None:
    look = seen(images={})
    found = step(pod(), replace(look, images={"main": ImageSeen(0, "", failure("ErrImagePull", ago))}), {}, NOW)
    assert state(found.status)["state"]["waiting"]["reason"] == reason
    assert found.instructions == ()
    assert found.wake_at is not None


def test_image_pull_is_tried_again() -> None:
    look = replace(seen(), images={"main": ImageSeen(0, "", failure("ErrImagePull", 10))})
    assert step(pod(), look, {}, NOW).instructions == (EnsureImage("main", 0),)


@pytest.mark.parametrize("reason", ["CreateContainerConfigError", "CreateContainerError"])
def test_a_container_that_cannot_be_made_waits_with_its_reason(reason: str) -> None:
    look = seen(images={"main": 0}, start_failures={"main": failure(reason, 1)})
    found = step(pod(), look, {}, NOW)
    assert state(found.status)["state"]["waiting"] == {"reason": reason, "message": "no such thing"}
    assert found.instructions == ()
    assert found.wake_at == NOW + timedelta(seconds=9)


def test_volumes_that_fail_are_told() -> None:
    look = seen(images={"main": 0}, volumes=VolumesSeen(False, failure("FailedMount", 0), True))
    found = step(pod(), look, {}, NOW)
    assert state(found.status)["state"]["waiting"] == {"reason": "ContainerCreating", "message": "no such thing"}


# Init containers and sidecars.


def test_init_containers_run_in_order() -> None:
    subject = pod(init=[{"name": "one"}, {"name": "two"}])
    images = {"one": 0, "two": 0, "main": 0}
    first = step(subject, seen(images=images), {}, NOW)
    assert first.instructions == (StartContainer("one", 0, "sha", 0),)
    assert state(first.status)["state"]["waiting"]["reason"] == "PodInitializing"
    assert condition(first.status, "Initialized")["message"] == "containers with incomplete status: [one two]"
    assert step(subject, seen(running("one"), images=images), {}, NOW).instructions == ()
    second = step(subject, seen(exited("one"), images=images), {}, NOW)
    assert second.instructions == (StartContainer("two", 0, "sha", 0),)
    third = step(subject, seen(exited("one"), exited("two"), images=images), {}, NOW)
    assert third.instructions == (StartContainer("main", 0, "sha", 0),)


@pytest.mark.parametrize(("policy", "phase"), [("Never", "Failed"), ("OnFailure", "Pending"), ("Always", "Pending")])
def test_an_init_container_that_fails(policy: str, phase: str) -> None:
    subject = pod(init=[{"name": "one"}], restartPolicy=policy)
    found = step(subject, seen(exited("one", code=1), images={"one": 1}), {}, NOW)
    assert found.status["phase"] == phase
    assert (found.instructions == ()) == (policy == "Never")


def test_sidecars_start_first_and_main_waits_until_they_have_started() -> None:
    sidecar = {"name": "side", "restartPolicy": "Always", "startupProbe": {"exec": {}}}
    subject, images = pod(init=[sidecar]), {"side": 0, "main": 0}
    assert step(subject, seen(images=images), {}, NOW).instructions == (StartContainer("side", 0, "sha", 0),)
    starting = seen(running("side"), images=images, probes={"side-0": ProbeSeen(False, True)})
    assert step(subject, starting, {}, NOW).instructions == ()
    started = seen(running("side"), images=images, probes={"side-0": ProbeSeen(True, True)})
    assert step(subject, started, {}, NOW).instructions == (StartContainer("main", 0, "sha", 0),)


def test_sidecars_restart_while_main_runs_and_end_after_it() -> None:
    subject = pod(init=[{"name": "side", "restartPolicy": "Always"}], restartPolicy="Never")
    crashed = step(subject, seen(exited("side", code=1), running(), images={"side": 1}), {}, NOW)
    assert crashed.instructions == (StartContainer("side", 1, "sha", 1),)
    done = step(subject, seen(running("side"), exited()), {"phase": "Running"}, NOW)
    assert [type(found) for found in done.instructions] == [KillContainer]
    assert done.status["phase"] == "Running"
    over = step(subject, seen(exited("side", code=143), exited()), {"phase": "Running"}, NOW)
    assert over.status["phase"] == "Succeeded"
    assert over.instructions == ()


def test_ephemeral_containers_run_once_and_count_for_nothing() -> None:
    subject = pod(ephemeralContainers=[{"name": "debug"}], restartPolicy="Never")
    begun = step(subject, seen(running(), images={"debug": 0}), {}, NOW)
    assert begun.instructions == (StartContainer("debug", 0, "sha", 0),)
    over = step(subject, seen(running(), exited("debug", code=1)), begun.status, NOW)
    assert over.instructions == ()
    assert over.status["phase"] == "Running"
    assert condition(over.status, "Ready")["status"] == "True"
    assert state(over.status, "debug", "ephemeralContainerStatuses")["state"]["terminated"]["exitCode"] == 1


# Probes and hooks.


@pytest.mark.parametrize(
    ("probe", "hooks", "started", "ready"),
    [
        (ProbeSeen(True, True), frozenset(), True, True),
        (ProbeSeen(True, False), frozenset(), True, False),
        (ProbeSeen(False, True), frozenset(), False, False),
        (ProbeSeen(True, True), frozenset({"main-0"}), False, False),
    ],
)
def test_readiness(probe: ProbeSeen, hooks: frozenset[str], started: bool, ready: bool) -> None:
    found = step(pod(), seen(running(), probes={"main-0": probe}, hooks=hooks), {}, NOW)
    assert (state(found.status)["started"], state(found.status)["ready"]) == (started, ready)
    assert condition(found.status, "Ready")["status"] == str(ready)
    assert found.status["phase"] == "Running"


def test_a_condemned_container_is_killed_once_with_its_own_grace() -> None:
    look = seen(running(), condemned={"main-0": Condemned("failed liveness probe", 3)})
    assert step(pod(), look, {}, NOW).instructions == (KillContainer("main-0", "main", 3, "failed liveness probe"),)
    killing = replace(look, killing={"main-0": NOW + timedelta(seconds=3)})
    assert step(pod(), killing, {}, NOW).instructions == ()


def test_readiness_gates() -> None:
    subject = pod(readinessGates=[{"conditionType": "example.com/lb"}])
    closed = step(subject, seen(running()), {}, NOW)
    assert condition(closed.status, "Ready")["reason"] == "ReadinessGatesNotReady"
    subject["status"] = {"conditions": [{"type": "example.com/lb", "status": "True"}]}
    opened = step(subject, seen(running()), closed.status, NOW)
    assert condition(opened.status, "Ready")["status"] == "True"
    assert condition(opened.status, "example.com/lb")["status"] == "True"


# Ending.


def test_deletion_stops_containers_then_clears_everything_then_finishes() -> None:
    subject = deleting(pod(), grace=7)
    kill = step(subject, seen(running()), {"phase": "Running"}, NOW)
    assert kill.instructions == (KillContainer("main-0", "main", 7, "Stopping container main"),)
    killing = seen(running(), killing={"main-0": NOW + timedelta(seconds=7)}, busy=frozenset({"kill/main-0/7"}))
    assert step(subject, killing, kill.status, NOW).instructions == ()
    ended = seen(exited(code=143))
    box = step(subject, ended, kill.status, NOW)
    assert box.instructions == (RemoveSandbox("u1-0"),)
    assert box.status["phase"] == "Failed"
    volumes = step(subject, replace(ended, sandbox=None, containers=()), box.status, NOW)
    assert volumes.instructions == (TeardownVolumes(),)
    finish = step(subject, Observed(), volumes.status, NOW)
    assert finish.instructions == (FinishPod(),)
    assert state(finish.status)["state"]["terminated"]["exitCode"] == 143


def test_less_grace_kills_again() -> None:
    look = seen(running(), killing={"main-0": NOW + timedelta(seconds=30)}, busy=frozenset({"kill/main-0/30"}))
    assert step(deleting(pod(), 1), look, {}, NOW).instructions == (
        KillContainer("main-0", "main", 1, "Stopping container main"),
    )


def test_sidecars_are_stopped_last_in_reverse_order() -> None:
    sidecars = [{"name": name, "restartPolicy": "Always"} for name in ("s1", "s2")]
    subject = deleting(pod(init=sidecars))
    first = step(subject, seen(running("s1"), running("s2"), running()), {}, NOW)
    assert [found.name for found in first.instructions if isinstance(found, KillContainer)] == ["main"]
    second = step(subject, seen(running("s1"), running("s2"), exited()), {}, NOW)
    assert [found.name for found in second.instructions if isinstance(found, KillContainer)] == ["s2"]


def test_a_pod_that_never_ran_is_deleted_at_once() -> None:
    found = step(deleting(pod()), Observed(), {}, NOW)
    assert found.instructions == (FinishPod(),)


def test_a_pod_that_vanished_from_the_api_is_cleared_too() -> None:
    assert [type(found) for found in step(pod(), seen(running(), gone=True), {}, NOW).instructions] == [KillContainer]
    assert step(pod(), seen(exited(), gone=True), {}, NOW).instructions == (RemoveSandbox("u1-0"),)


def test_the_deadline_fails_the_pod() -> None:
    subject = pod(activeDeadlineSeconds=60)
    subject["status"] = {"startTime": "2026-01-01T11:59:30Z"}
    before = step(subject, seen(running()), subject["status"], NOW)
    assert before.wake_at == NOW + timedelta(seconds=30)
    after = step(subject, seen(running()), before.status, NOW + timedelta(seconds=30))
    assert [type(found) for found in after.instructions] == [KillContainer]
    assert (after.status["phase"], after.status.get("reason")) == ("Running", None), "whoever replaces it waits"
    late = NOW + timedelta(seconds=31)
    ended = step(subject, seen(replace(exited(code=137), finished=late)), after.status, late)
    assert (ended.status["phase"], ended.status["reason"]) == ("Failed", "DeadlineExceeded")


def test_a_pod_that_ended_before_its_deadline_did_so_however_late_that_is_seen() -> None:
    subject = pod(activeDeadlineSeconds=60, restartPolicy="Never")
    subject["status"] = {"startTime": "2026-01-01T11:59:30Z"}
    found = step(subject, seen(exited(code=0)), subject["status"], NOW + timedelta(hours=1))
    assert found.status["phase"] == "Succeeded"


def test_an_evicted_pod_has_failed_when_its_containers_have_ended() -> None:
    told = model.Rejection("Evicted", "low on memory", 1, disrupted=True)
    killed = step(pod(), seen(running(), rejected=told), {"phase": "Running"}, NOW)
    assert [(type(found), found.grace) for found in killed.instructions] == [(KillContainer, 1)]  # type: ignore[union-attr]
    assert (killed.status["phase"], killed.status.get("reason")) == ("Running", None)
    ended = step(pod(), seen(exited(code=137), rejected=told), killed.status, NOW)
    assert (ended.status["phase"], ended.status["reason"]) == ("Failed", "Evicted")
    assert condition(ended.status, "DisruptionTarget")["reason"] == "TerminationByKubelet"
    assert ended.instructions == ()
    cleared = step(pod(), seen(exited(code=137), rejected=told, unwanted=True), ended.status, NOW)
    assert cleared.instructions == (RemoveSandbox("u1-0"),)


def test_a_rejected_pod_fails_and_nothing_is_done() -> None:
    found = step(pod(), Observed(rejected=model.Rejection("OutOfcpu", "too much")), {}, NOW)
    assert found.instructions == ()
    assert (found.status["phase"], found.status["reason"], found.status["message"]) == (
        "Failed",
        "OutOfcpu",
        "too much",
    )


def test_an_ended_pod_keeps_its_containers_until_it_is_deleted() -> None:
    look, before = seen(exited()), {"phase": "Succeeded"}
    assert step(pod(restartPolicy="Never"), look, before, NOW).instructions == ()
    assert step(deleting(pod(restartPolicy="Never")), look, before, NOW).instructions == (RemoveSandbox("u1-0"),)


def test_a_terminal_phase_stays() -> None:
    found = step(pod(), seen(exited(code=0)), {"phase": "Failed", "reason": "Evicted", "message": "why"}, NOW)
    assert (found.status["phase"], found.status["reason"]) == ("Failed", "Evicted")
    assert found.instructions == ()


# Loss.


def test_a_lost_sandbox_is_removed_and_made_again() -> None:
    lost = seen(exited(code=255), sandbox=replace(BOX, ready=False))
    first = step(pod(), lost, {"phase": "Running"}, NOW)
    assert RemoveSandbox("u1-0") in first.instructions
    second = step(pod(), Observed(volumes=VolumesSeen(True), sandbox_attempts=1), first.status, NOW)
    assert CreateSandbox(1) in second.instructions
    assert second.status["phase"] == "Running"
    box = replace(BOX, id="u1-1")
    third = step(pod(), seen(sandbox=box, images={"main": 1}), second.status, NOW)
    assert third.instructions == (StartContainer("main", 1, "sha", 1),)


def test_a_lost_sandbox_of_a_pod_that_must_not_restart_fails_it() -> None:
    lost = seen(replace(exited(code=255), exit_code=None), sandbox=replace(BOX, ready=False))
    found = step(pod(restartPolicy="Never"), lost, {"phase": "Running"}, NOW)
    assert found.status["phase"] == "Failed"
    assert state(found.status)["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert found.instructions == ()


def test_init_containers_run_again_in_a_new_sandbox() -> None:
    subject = pod(init=[{"name": "one"}])
    old = {
        "phase": "Running",
        "initContainerStatuses": [
            {"name": "one", "restartCount": 0, "state": {"terminated": {"exitCode": 0, "containerID": "corral://x"}}}
        ],
    }
    found = step(subject, seen(sandbox=replace(BOX, id="u1-1"), images={"one": 1}), old, NOW)
    assert found.instructions == (StartContainer("one", 1, "sha", 1),)


def test_a_container_that_was_only_created_is_removed_first() -> None:
    half = replace(running(), state=ContainerState.CREATED, started=None)
    found = step(pod(), seen(half, images={"main": 1}), {}, NOW)
    assert found.instructions == (RemoveContainer("main-0", "main"),)


def test_last_state_survives_the_removal_of_the_dead_container() -> None:
    first = step(pod(), seen(exited(code=3), running(attempt=1)), {}, NOW)
    assert state(first.status)["lastState"]["terminated"]["exitCode"] == 3
    second = step(pod(), seen(running(attempt=1)), first.status, NOW)
    assert state(second.status)["lastState"]["terminated"]["exitCode"] == 3


@pytest.mark.parametrize(
    ("containers", "word"),
    [((running(), running(attempt=1)), "both live"), ((running("stranger"),), "which the pod lacks")],
)
def test_impossible_observations_tell_the_story(containers: tuple[Container, ...], word: str) -> None:
    with pytest.raises(model.IllegalObservation, match=word) as caught:
        step(pod(), seen(*containers), {}, NOW)
    assert "default/web" in str(caught.value)


def test_conditions_keep_their_transition_time() -> None:
    first = step(pod(), seen(running()), {}, NOW)
    later = step(pod(), seen(running()), first.status, NOW + timedelta(hours=1))
    assert later.status == first.status
