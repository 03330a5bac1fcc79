"""Three machines as network namespaces, each with a pod: `a` and `b` on one link, `c` behind a router.

```
 pod 10.88.1.2 - a 10.77.0.1 --+
                               +-- router -- 10.77.9.3 c - pod 10.88.3.2
 pod 10.88.2.2 - b 10.77.0.2 --+
```
"""

import asyncio
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import TypeVar

import pytest

from corral.agent.runtime import syscalls
from corral.agent.runtime.oci.network import NetworkConfig, masquerade_rules
from corral.kinds.podnetwork import HostSubnet
from corral.network.plan import Plan, changes, plan
from corral.network.programs import Names, Programs

T = TypeVar("T")
HOSTS = {"a": "10.77.0.1", "b": "10.77.0.2", "c": "10.77.9.3"}
GATEWAYS = {"a": "10.77.0.254", "b": "10.77.0.254", "c": "10.77.9.254"}
SUBNETS = {"a": "10.88.1.0/24", "b": "10.88.2.0/24", "c": "10.88.3.0/24"}


def subnets(*names: str) -> list[HostSubnet]:
    """What the API says of these machines."""
    return [HostSubnet(name, HOSTS[name], (IPv4Network(SUBNETS[name]),)) for name in names]


def ip(namespace: str, *lines: str) -> str:
    """Run lines of `ip` in a namespace."""
    argv = ["ip", *(["-n", namespace] if namespace else []), "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(lines), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def inside(namespace: str, make: Callable[[], T]) -> T:
    """What `make` returns when it is called in a namespace: sockets stay in it."""
    made: list[T] = []

    def enter() -> None:
        syscalls.enter_network(Path("/run/netns", namespace))
        made.append(make())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return made[0]


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine, its pod, and what keeps its routes."""

    name: str
    prefix: str
    names: Names
    programs: Programs

    @property
    def namespace(self) -> str:
        return f"{self.prefix}{self.name}"

    @property
    def pod(self) -> str:
        """The pod's address."""
        return str(IPv4Network(SUBNETS[self.name])[2])

    @property
    def pod_namespace(self) -> str:
        return f"{self.namespace}p"

    async def follow(self, known: Sequence[HostSubnet]) -> Plan:
        """What a keeper does at each look."""
        here = await self.programs.read()
        wanted = plan(self.name, known, here)
        await self.programs.filter(wanted)
        own = IPv4Network(SUBNETS[self.name])
        await self.programs.route(changes(here.routes, wanted.routes), tunnels=wanted.tunnels, own=own)
        return wanted

    def ours(self) -> str:
        """Our routes, for people."""
        argv = ["ip", "-n", self.namespace, "route", "show", "table", "all", "proto", "67"]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


async def fetch(machine: Machine, other: Machine, size: int, seconds: float = 5.0) -> tuple[str, int]:
    """Send `size` bytes from pod to pod by TCP: whose address the receiver saw, and how many bytes it had."""
    async with asyncio.timeout(seconds):
        loop = asyncio.get_running_loop()
        with (
            inside(other.pod_namespace, lambda: socket.create_server((other.pod, 8080))) as listening,
            inside(machine.pod_namespace, lambda: socket.socket()) as sender,
        ):
            listening.setblocking(False)
            sender.setblocking(False)
            await loop.sock_connect(sender, (other.pod, 8080))
            receiver, (address, _) = await loop.sock_accept(listening)
            with receiver:
                sending = asyncio.create_task(_send(loop, sender, size))
                had = 0
                while piece := await loop.sock_recv(receiver, 1 << 16):
                    had += len(piece)
                await sending
                return address, had


async def _send(loop: asyncio.AbstractEventLoop, sender: socket.socket, size: int) -> None:
    await loop.sock_sendall(sender, b"x" * size)
    sender.shutdown(socket.SHUT_WR)


@pytest.fixture
def machines() -> Iterator[dict[str, Machine]]:
    """The three machines, without any route of ours."""
    prefix = f"pn{os.getpid()}"
    names = Names("corral-testpods")
    made = {
        name: Machine(name, prefix, names, Programs(names, ("ip", "netns", "exec", f"{prefix}{name}")))
        for name in HOSTS
    }
    every = [f"{prefix}r", *(one.namespace for one in made.values()), *(one.pod_namespace for one in made.values())]
    try:
        ip("", *(f"netns add {name}" for name in every))
        ip(f"{prefix}r", "link add lan type bridge", "link set lan up", "addr add 10.77.0.254/24 dev lan")
        for one in made.values():
            _connect(prefix, one)
        _forward(f"{prefix}r")
        ip(f"{prefix}r", "addr add 10.77.9.254/24 dev to-c")
        ip(f"{prefix}r", "link set to-a master lan", "link set to-b master lan")
        yield made
    finally:
        for name in every:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _connect(prefix: str, one: Machine) -> None:
    ip(
        one.namespace,
        "link set lo up",
        f"link add eth0 type veth peer name to-{one.name} netns {prefix}r",
        "link set eth0 up",
        f"addr add {HOSTS[one.name]}/24 dev eth0",
        f"route add default via {GATEWAYS[one.name]}",
        f"link add pods type veth peer name eth0 netns {one.pod_namespace}",
        "link set pods up",
        f"addr add {IPv4Network(SUBNETS[one.name])[1]}/24 dev pods",
    )
    ip(f"{prefix}r", f"link set to-{one.name} up")
    ip(
        one.pod_namespace,
        "link set lo up",
        "link set eth0 up",
        f"addr add {one.pod}/24 dev eth0",
        f"route add default via {IPv4Network(SUBNETS[one.name])[1]}",
    )
    _forward(one.namespace)
    rules = masquerade_rules(NetworkConfig(one.names.table, SUBNETS[one.name]))
    nft = ["ip", "netns", "exec", one.namespace, "nft", "-f", "-"]
    subprocess.run(nft, input=rules, check=True, text=True, capture_output=True)


def _forward(namespace: str) -> None:
    inside(namespace, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
