"""`corral run`: the main job. Send the directory, run the program, bring back its output, files and exit code."""

import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from corral.base.errors import CorralError
from corral.base.quantities import parse
from corral.cli import fetch, follow, programs, terminal
from corral.cli.packing import Package, pack
from corral.cli.session import Session, connected
from corral.kinds.resources import JOBS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    argv: Sequence[str]
    cpu: str
    memory: str
    image: str
    env: Sequence[str]
    name: str
    detach: bool
    remove: bool
    get: Sequence[str]
    interactive: bool
    tty: bool
    quiet: bool
    queue: str


@click.command(
    "run",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    short_help="Run a program on a machine with room.",
)
@click.option("--cpu", default="", metavar="N", help="CPUs to reserve (0.5, 2); idle CPU beyond them may be used.")
@click.option("--memory", default="", metavar="SIZE", help="Memory to reserve and the most it may use (512Mi, 2Gi).")
@click.option("--image", default="host", show_default=True, metavar="REF", help="Image to run in.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Environment variable.")
@click.option("--queue", default="", metavar="NAME", help="Queue to wait in for quota (see corral queue).")
@click.option("--name", default="", metavar="NAME", help="Name of the job; made from the program's otherwise.")
@click.option("-d", "--detach", is_flag=True, help="Print the name and return as soon as the cell has taken it.")
@click.option("--rm", "remove", is_flag=True, help="Delete the job when it has ended.")
@click.option("--get", multiple=True, metavar="PATH", help="Bring PATH (below /work) back when the program has ended.")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Give the program a terminal.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but the program's output.")
@click.argument("argv", nargs=-1, required=True, metavar="[--] PROGRAM ARGS...")
@connected
async def command(
    session: Session,
    cpu: str,
    memory: str,
    image: str,
    env: tuple[str, ...],
    queue: str,
    name: str,
    detach: bool,
    remove: bool,
    get: tuple[str, ...],
    interactive: bool,
    tty: bool,
    quiet: bool,
    argv: tuple[str, ...],
) -> int:
    """Send the current directory to the cell and run PROGRAM there, in a container, at /work.

    Files that .gitignore or .corralignore name are not sent. The exit code is the program's; 125 is an error of
    Corral's own, 126 a program that cannot be executed, 127 one that does not exist.
    """
    check_quantity("--cpu", cpu)
    check_quantity("--memory", memory)
    options = Options(argv, cpu, memory, image, env, name, detach, remove, get, interactive, tty, quiet, queue)
    if detach and (get or interactive):
        raise CorralError("cannot use --detach with --get or --interactive", "drop --detach")
    return await _Run(session, options).perform()


def check_quantity(flag: str, text: str) -> None:
    """Raises CorralError, with the name of the flag, unless `text` is empty or a positive quantity."""
    try:
        good = not text or parse(text) > parse(0)
    except ValueError:
        good = False
    if not good:
        raise CorralError(f"cannot read {flag} {text}: it is not a positive quantity", "write 0.5, 2, 512Mi or 2Gi")


class _Run:
    """One run, from packing to exit code."""

    def __init__(self, session: Session, options: Options) -> None:
        self.session = session
        self.options = options
        self.name = options.name or programs.name_for(options.argv, random.SystemRandom())

    async def perform(self) -> int:
        env = programs.parse_env(self.options.env, os.environ)
        digest = await self._send()
        program = programs.Program(
            self.name,
            self.options.argv,
            self.options.image,
            digest,
            self.options.cpu,
            self.options.memory,
            env,
            self.options.interactive,
            self.options.tty,
            self.options.queue,
        )
        submitted = time.monotonic()
        job = programs.job(program)
        job["metadata"]["namespace"] = self.session.namespace
        await self.session.client.create(JOBS, job)
        if self.options.queue:
            self._note(f"{self.name} waits in queue {self.options.queue}; see `corral queue job/{self.name}`")
        if self.options.detach:
            click.echo(self.name)
            return 0
        return await self._attend(submitted)

    def _note(self, text: str) -> None:
        if not self.options.quiet:
            terminal.note(text)

    async def _send(self) -> str:
        """Pack the current directory and upload it, unless the cell has it already."""
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="corral-") as directory:
            package = await asyncio.to_thread(pack, Path.cwd(), Path(directory) / "source.tar.gz")
            sent = await upload(self.session, package)
        what = f"{terminal.files(package.files)}, {terminal.size(package.size)}"
        took = terminal.duration(time.monotonic() - began)
        self._note(f"sent {what} in {took}" if sent else f"{what}: the cell has them already")
        return package.digest

    async def _attend(self, submitted: float) -> int:
        """Follow the job to its end; SIGINT asks what to do."""
        attention = follow.Attention(
            self.session, self.name, submitted, self._note, self.options.interactive, self.options.tty
        )
        work = asyncio.create_task(attention.run(), name="follow")
        interrupt = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, interrupt.set)
        loop.add_signal_handler(signal.SIGTERM, interrupt.set)
        try:
            while not work.done():
                waiter = asyncio.create_task(interrupt.wait())
                await asyncio.wait({work, waiter}, return_when=asyncio.FIRST_COMPLETED)
                waiter.cancel()
                if interrupt.is_set() and not work.done():
                    interrupt.clear()
                    code = await self._interrupted()
                    if code is not None:
                        return code
            outcome = work.result()
        except follow.NeverStarts:
            await self._delete()
            raise
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await work
        try:
            for path in self.options.get:
                await self._bring_back(outcome.pod, path)
        finally:
            if self.options.remove:
                await self._delete()
        return outcome.code

    async def _bring_back(self, pod: Obj | None, path: str) -> None:
        if pod is None:
            raise CorralError(f"cannot get {path}: the pod is gone")
        try:
            count = await fetch.tree(self.session, pod["metadata"]["name"], programs.WORK_VOLUME, path, Path.cwd())
        except StatusError as error:
            remedy = f"see what the program left below {programs.WORK_DIR}; --get takes a path relative to it"
            raise CorralError(f"cannot get {path}: {error.message}", remedy) from error
        self._note(f"brought back {path}: {terminal.files(count)}")

    async def _interrupted(self) -> int | None:
        """What to do on Ctrl-C: stop (the default, and always without a terminal), detach, or go on (None)."""
        answer = "s"
        if sys.stdin.isatty() and not self.options.interactive:
            click.echo(err=True)
            prompt = f"corral: {self.name} is running. (s)top it, (d)etach, (c)ontinue? [s] "
            click.echo(prompt, nl=False, err=True)
            answer = (await asyncio.to_thread(sys.stdin.readline)).strip().lower()[:1] or "s"
        if answer == "c":
            return None
        if answer == "d":
            self._note(f"detached; come back with `corral logs -f {self.name}`, stop it with `corral stop {self.name}`")
            return 0
        self._note(f"stopping {self.name}")
        await self._delete()
        return 130

    async def _delete(self) -> None:
        try:
            await self.session.client.delete(JOBS, self.name, self.session.namespace, propagation="Background")
        except StatusError as error:
            if error.reason != "NotFound":
                raise


async def upload(session: Session, package: Package) -> bool:
    """Bring a package to the cell; False if the cell has it.

    Raises:
        StatusError: the cell does not take it (too large, disk full).
    """
    path = f"/apis/corral.dev/v1/namespaces/{session.namespace}/sources/{package.digest}"
    try:
        async with session.open(path, method="HEAD"):
            return False
    except StatusError as error:
        if error.code != 404:
            raise
    with package.path.open("rb") as file:
        async with session.open(path, method="PUT", data=file):
            return True
