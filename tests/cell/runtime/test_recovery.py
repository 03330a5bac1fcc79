"""A runtime that does not answer is made to: calls that hang are ended, what ended unseen is seen."""

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from corral.agent.runtime.api import ContainerState, RuntimeFailure
from corral.agent.runtime.oci import OciRuntime, hung
from corral.agent.runtime.oci.monitors import read_pid
from corral.testing.runtime_suite import PATIENCE, make_pod


async def test_calls_that_hang_are_ended_and_the_next_one_works(
    runtime: OciRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, held = runtime._engine, runtime._held
    assert engine is not None
    stuck = tmp_path / "stuck"
    os.mkfifo(tmp_path / "never")
    stuck.write_text(f"#!/bin/sh\nread line < {tmp_path}/never\n")
    stuck.chmod(0o755)
    held._engine = replace(engine, path=str(stuck), wrapper=())
    pod = await make_pod(runtime, tmp_path)
    spec = pod.spec("sleep", "inf")
    await runtime.create_container(spec)
    starting = asyncio.create_task(runtime.start_container(spec.id))
    async with asyncio.timeout(PATIENCE):
        while not hung.hung_calls(held._engine, 0.0):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert hung.hung_calls(held._engine, hung.HUNG_SECONDS) == [], "what has just begun does not hang"
        monkeypatch.setattr(hung, "HUNG_SECONDS", 0.0)
        runtime._engine = held._engine
        assert "1 calls hung" in await runtime.recover()
        with pytest.raises(RuntimeFailure):
            await starting
        again = replace(spec, id=f"{spec.id}-again", attempt=1)
        await pod.run(again)
    assert (await runtime.containers())[-1].state is ContainerState.RUNNING


async def test_what_ended_unseen_is_seen_and_the_rest_runs_on(runtime: OciRuntime, tmp_path: Path) -> None:
    pod = await make_pod(runtime, tmp_path)
    lost, kept = pod.spec("sleep", "inf"), replace(pod.spec("sleep", "inf"), name="kept", id="kept")
    await pod.run(lost)
    await pod.run(kept)
    started = next(one for one in await runtime.containers() if one.id == "kept").started
    runtime._held._monitors.forget(lost.id)
    monitor = read_pid(runtime._layout.container(lost.id) / "conmon.pid")
    descriptor = os.pidfd_open(monitor)
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)
    exits = runtime.exits()
    assert "1 containers run, 1 had ended" in await runtime.recover()
    async with asyncio.timeout(PATIENCE):
        assert (await anext(exits)).id == lost.id
    kept_now = next(one for one in await runtime.containers() if one.id == "kept")
    assert (kept_now.state, kept_now.started) == (ContainerState.RUNNING, started)
