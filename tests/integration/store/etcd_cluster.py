"""Real etcd members for tests, on loopback, with data in a directory of the test's own."""

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from corral.store.etcd.address import EtcdAddress, parse

_QUICK = ("--heartbeat-interval", "20", "--election-timeout", "200")
_READY_SECONDS = 20.0


def installed() -> bool:
    """Whether there is an etcd to start."""
    return shutil.which("etcd") is not None


def _ports(count: int) -> list[int]:
    """Free ones that no outgoing connection is given, so that a member finds its own again when it comes back."""
    least = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in random.SystemRandom().sample(range(max(1024, least // 2), max(20_000, least)), 50 * count):
            one = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError(f"no {count} ports are free")


@dataclass
class EtcdCluster:
    """Members that can be killed, frozen and started again."""

    directory: Path
    size: int = 1
    options: Sequence[str] = ()
    """For each member."""
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ports = _ports(2 * self.size)
        self.clients, self.peers = ports[: self.size], ports[self.size :]

    @property
    def address(self) -> EtcdAddress:
        return parse("etcd://" + ",".join(f"127.0.0.1:{port}" for port in self.clients))

    def start(self, members: Sequence[int] | None = None) -> None:
        """Start members (all of them by default) and wait until they answer."""
        chosen = range(self.size) if members is None else members
        self.directory.mkdir(parents=True, exist_ok=True)
        for number in chosen:
            with self._log(number).open("ab") as log:
                self.processes[number] = subprocess.Popen(self._command(number), stdout=log, stderr=log)
        for number in chosen:
            self._wait(number)

    def _log(self, number: int) -> Path:
        return self.directory / f"m{number}.log"

    def _command(self, number: int) -> list[str]:
        client, peer = f"http://127.0.0.1:{self.clients[number]}", f"http://127.0.0.1:{self.peers[number]}"
        everyone = ",".join(f"m{at}=http://127.0.0.1:{port}" for at, port in enumerate(self.peers))
        return [
            *("etcd", "--name", f"m{number}", "--data-dir", str(self.directory / f"m{number}")),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", everyone, "--max-request-bytes", str(8 << 20), "--log-level", "error"),
            *_QUICK,
            *self.options,
        ]

    def _wait(self, number: int) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            if b'"true"' in self._ask(number, "health"):
                return
            if time.monotonic() > deadline or self.processes[number].poll() is not None:
                said = self._log(number).read_text(errors="replace")[-2000:]
                raise RuntimeError(f"etcd member {number} does not answer: {said}")
            time.sleep(0.01)

    def leader(self) -> int:
        """The number of the member that leads."""
        for number in self.processes:
            if b"\netcd_server_is_leader 1\n" in self._ask(number, "metrics"):
                return number
        raise RuntimeError("no member leads")

    def _ask(self, number: int, what: str) -> bytes:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.clients[number]}/{what}", timeout=2) as answer:
                return bytes(answer.read())
        except OSError:
            return b""

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a signal to a member."""
        self.processes[number].send_signal(what)

    def kill(self, number: int) -> None:
        """End a member as a power cut does."""
        process = self.processes.pop(number)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End all members."""
        for number in list(self.processes):
            self.kill(number)


@contextlib.contextmanager
def cluster(directory: Path, size: int = 1, *options: str) -> Iterator[EtcdCluster]:
    """A running etcd of `size` members."""
    made = EtcdCluster(directory, size, options)
    try:
        made.start()
        yield made
    finally:
        made.stop()
