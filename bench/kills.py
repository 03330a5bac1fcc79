"""SIGKILL for the server and for the agent, over and over, at random moments: while they start, work, and write.

A real cell: one server process, one process of a joined machine, real containers. One of the two, or both, are killed
and started again at once, as often as asked. Meanwhile containers run that write a
line to a file of their own when they begin, a client updates objects, and Jobs are run one after the other. At the end:

- restarts: lines too many, of containers that were to run without end or of Jobs (each begins once);
- lost writes: objects that do not show the last update that was acknowledged, or a later one;
- lost jobs: those that were acknowledged and did not complete.

    python bench/kills.py [--kills N] [--minutes N] [--seed N] [--pods N] [--json]

Needs root. The exit code is 1 if anything was lost. One kill of four comes at any moment of a start, the others at any
moment of the first second after it.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from corral.client.client import Client
from corral.client.kubeconfig import load
from corral.kinds import conditions
from corral.kinds.resources import CONFIG_MAPS, DEPLOYMENTS, JOBS, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.testing.ending import end_as_by_ctrl_c
from submit import until_ready

_ADDRESS = "127.7.0.1"
"""Of the machine: one that no other machine has."""
_LEDGERS = 20
_SETTLE_SECONDS = 120.0
_AWAY = (StatusError, OSError)
_SAY_EVERY = 50
_EARLY = 0.25
_START_SECONDS = 2.0
"""What a start takes, about."""


@dataclass
class Victim:
    """A process that is killed and started again."""

    name: str
    command: list[str]
    log: Path
    kills: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    _from: int = 0

    def is_ready(self) -> bool:
        """Whether it has said so since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._from)
            return b" ready in " in log.read()

    def start(self) -> None:
        self._from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "corral", *self.command], stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone.

        Raises:
            RuntimeError: it has ended by itself.
        """
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"the {self.name} ended by itself with {self.process.returncode}: see {self.log}")
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.kills += 1

    def end(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@dataclass
class Found:
    """What clients were promised, and what became of it."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    writes: int = 0
    refused: int = 0


async def until(holds: Callable[[], bool]) -> None:
    """Return when `holds` does."""
    async with asyncio.timeout(_SETTLE_SECONDS):
        while True:
            if holds():
                return
            await asyncio.sleep(0.1)


class Cell:
    """The cell under test."""

    def __init__(self, directory: Path, options: argparse.Namespace) -> None:
        self.directory = directory
        self.witness = directory / "witness"
        self.witness.mkdir()
        self.options = options
        self.found = Found()
        self.server = Victim("server", [], directory / "server.log")
        self.agent = Victim("agent", ["join", "--data-dir", str(directory / "m")], directory / "agent.log")
        self.client: Client

    async def start(self) -> None:
        """A server, a machine, and containers that run."""
        data_dir = self.directory / "c"
        up = ["up", "--no-agent", "--data-dir", str(data_dir), "--port"]
        self.server.command = [*up, "0"]
        self.server.start()
        await until((data_dir / "kubeconfig").exists)
        access = load(data_dir / "kubeconfig")
        self.server.command = [*up, access.server.rpartition(":")[2]]
        self.client = Client(access.transport(), field_manager="bench")
        await until_ready(self.client)
        line = await asyncio.to_thread(self._token)
        some = ["--name", "m1", "--address", _ADDRESS, *line[2:], "--data-dir", str(self.directory / "m")]
        joined = Victim("agent", ["join", *some], self.agent.log)
        joined.start()
        self.agent.process = joined.process
        await self.client.create(DEPLOYMENTS, endless(self.options.pods, self.witness))
        await self._until_running()

    def _token(self) -> list[str]:
        environment = {**os.environ, "KUBECONFIG": str(self.directory / "c" / "kubeconfig")}
        command = [sys.executable, "-m", "corral", "token", "create"]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()

    async def _until_running(self) -> None:
        async with asyncio.timeout(_SETTLE_SECONDS):
            while True:
                with suppress(*_AWAY):
                    found = await self.client.get(DEPLOYMENTS, "endless", "default")
                    if (found.get("status") or {}).get("readyReplicas") == self.options.pods:
                        return
                await asyncio.sleep(0.5)

    async def kill_all(self) -> None:
        """The one, the other, or both at once, until both were killed often enough; clients work meanwhile."""
        rng, ends = random.Random(self.options.seed), time.monotonic() + self.options.minutes * 60
        clients = [asyncio.create_task(self._write()), asyncio.create_task(self._run_jobs())]
        both = (self.server, self.agent)
        try:
            while any(one.kills < self.options.kills for one in both) and time.monotonic() < ends:
                await self._kill(rng.choice(((self.server,), (self.agent,), both)), rng)
        finally:
            for client in clients:
                client.cancel()
        for client in clients:
            with suppress(asyncio.CancelledError):
                await client

    async def _kill(self, victims: Sequence[Victim], rng: random.Random) -> None:
        if rng.random() < _EARLY:
            await asyncio.sleep(rng.uniform(0.0, _START_SECONDS))
        else:
            for victim in victims:
                await until(victim.is_ready)
            await asyncio.sleep(rng.random())
        for victim in victims:
            victim.kill()
        for victim in victims:
            victim.start()
        if self.server in victims and self.server.kills % _SAY_EVERY == 0:
            said = f"{self.server.kills} and {self.agent.kills} kills, {self.found.writes} writes"
            print(f"{said}, {len(self.found.jobs)} jobs", file=sys.stderr, flush=True)

    async def _write(self) -> None:
        """Count objects up; what is acknowledged is remembered."""
        number = 0
        while True:
            number += 1
            name = f"ledger-{number % _LEDGERS}"
            made: Obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}
            try:
                await self.client.apply(CONFIG_MAPS, {**made, "data": {"n": str(number)}}, force=True)
                self.found.acknowledged[name] = number
                self.found.writes += 1
            except _AWAY:
                self.found.refused += 1
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.01)

    async def _run_jobs(self) -> None:
        """One Job after the other."""
        number = 0
        while True:
            number += 1
            name = f"job-{number}"
            if await self._create(job(name, self.witness)):
                self.found.jobs.append(name)
                await self._until_done(name)

    async def _until_done(self, name: str) -> None:
        while True:
            if await self._is_done(name):
                return
            await asyncio.sleep(0.3)

    async def _create(self, made: Obj) -> bool:
        """Whether a Job is there: its creation was acknowledged, or it is one whose acknowledgement was lost."""
        while True:
            try:
                await self.client.create(JOBS, made)
                return True
            except StatusError as error:
                if error.reason == "AlreadyExists" or error.code < 500:
                    return error.reason == "AlreadyExists"
            except OSError:
                pass
            await asyncio.sleep(0.1)

    async def _is_done(self, name: str) -> bool:
        with suppress(*_AWAY):
            found = await self.client.get(JOBS, name, "default")
            return conditions.is_true(found, "Complete") or conditions.is_true(found, "Failed")
        return False

    async def judge(self) -> dict[str, float]:
        """Let all settle, and compare with what was promised."""
        await self._until_running()
        jobs = Counter({"done": 0})
        for name in self.found.jobs:
            async with asyncio.timeout(_SETTLE_SECONDS):
                await self._until_done(name)
            job_found = await self.client.get(JOBS, name, "default")
            jobs["done" if conditions.is_true(job_found, "Complete") else "failed"] += 1
        lost = 0
        for name, number in self.found.acknowledged.items():
            lost += int((await self.client.get(CONFIG_MAPS, name, "default"))["data"]["n"]) < number
        pods = (await self.client.list(PODS, "default"))["items"]
        statuses = [status for pod in pods for status in (pod.get("status") or {}).get("containerStatuses") or ()]
        counted = sum(status["restartCount"] for status in statuses)
        begun = {path.name: len(path.read_text().splitlines()) for path in self.witness.iterdir()}
        endless_begun = sum(lines for name, lines in begun.items() if name.startswith("endless"))
        return {
            "kills of the server": self.server.kills,
            "kills of the agent": self.agent.kills,
            "acknowledged writes": self.found.writes,
            "writes without an answer": self.found.refused,
            "jobs": len(self.found.jobs),
            "lost writes": lost,
            "lost jobs": len(self.found.jobs) - jobs["done"],
            "restarts that the API counts": counted,
            "restarts of endless containers": endless_begun - self.options.pods,
            "second beginnings of jobs": sum(
                lines - 1 for name, lines in begun.items() if name.startswith("job-") and lines > 1
            ),
        }

    def end(self) -> None:
        """Stop everything and the containers."""
        for victim in (self.agent, self.server):
            victim.end()
        for part in ("m", "c"):
            command = [sys.executable, "-m", "corral", "down", "-t", "0", "--data-dir", str(self.directory / part)]
            subprocess.run(command, check=False, capture_output=True, timeout=120)


def _pod(script: str, witness: Path, policy: str) -> Obj:
    container = {
        "name": "main",
        "image": "host",
        "command": ["sh", "-c", script],
        "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "volumeMounts": [{"name": "witness", "mountPath": "/witness"}],
    }
    volumes = [{"name": "witness", "hostPath": {"path": str(witness), "type": "Directory"}}]
    return {
        "containers": [container],
        "volumes": volumes,
        "restartPolicy": policy,
        "terminationGracePeriodSeconds": 0,
    }


def endless(replicas: int, witness: Path) -> Obj:
    """Containers that write a line when they begin, and never end."""
    labels = {"app": "endless"}
    spec = _pod("echo begins >> /witness/$NAME; exec sleep 1000000", witness, "Always")
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "endless", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def job(name: str, witness: Path) -> Obj:
    """A second of work, which writes a line when it begins."""
    spec = _pod(f"echo begins >> /witness/{name}; sleep 1", witness, "Never")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    }


async def run(cell: Cell) -> dict[str, float]:
    """All kills, and what came of them."""
    await cell.start()
    try:
        await cell.kill_all()
        return await cell.judge()
    finally:
        await cell.client.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, metavar="N", help="of the server, and of the agent")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--minutes", type=float, default=1e9, metavar="N", help="after which no more are killed")
    parser.add_argument("--pods", type=int, default=5, metavar="N", help="that run without end")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    end_as_by_ctrl_c()
    directory = Path(tempfile.mkdtemp(prefix="corral-kills-"))
    cell = Cell(directory, options)
    kept = True
    try:
        figures = uvloop.run(run(cell))
        kept = any(figures[name] for name in figures if name.startswith(("lost", "restarts", "second")))
    finally:
        cell.end()
        if kept:
            print(f"kept for a look: {directory}", file=sys.stderr)
        else:
            shutil.rmtree(directory)
    print(json.dumps(figures) if options.json else "\n".join(f"{name:<34}{n:>10,.0f}" for name, n in figures.items()))
    return int(kept)


if __name__ == "__main__":
    raise SystemExit(main())
