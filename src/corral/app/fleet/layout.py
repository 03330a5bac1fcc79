"""What a fleet on one machine consists of: its names, addresses, and each machine's share of the real one. Pure.

```
DIR/fleet.json                     how many machines, on which subnet
DIR/machines/m1/                   the data directory of a machine that has joined, as on any other
DIR/machines/m1/net                pins its network namespace, in which its agent and monitors live
DIR/machines/m1/run/boot_id        new with each namespace
```

Host number 1 of the subnet is the real machine, 11 is m1, 12 is m2 and so on.
"""

import hashlib
import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from corral.agent.gpus import NVIDIA
from corral.apiserver.auth.files import write_private
from corral.app.config import CellConfig
from corral.base.errors import CorralError

FILE: Final = "fleet.json"
MOST: Final = 200
_SPACE: Final = ipaddress.IPv4Network("10.80.0.0/13")
_PREFIX: Final = 24
_FIRST_HOST: Final = 11


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of a fleet."""

    index: int
    """From 1."""
    config: CellConfig
    address: str
    gateway: str
    switch: Path
    """Where the host keeps whether it is on, out of reach of what happens to its disk."""
    link: str
    """The host's end of its cable; the machine's own is `eth0`."""

    @property
    def name(self) -> str:
        return f"m{self.index}"

    @property
    def namespace(self) -> Path:
        """Where its network namespace is pinned."""
        return self.config.data_dir / "net"


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines of one data directory."""

    config: CellConfig
    count: int
    subnet: str
    capacity: Mapping[str, int]
    """What pods may have on each: cpu in thousandths, everything else in whole units."""

    @property
    def bridge(self) -> str:
        """The bridge's name, and that of the fleet's tables of nftables."""
        return f"corral-{self.config.name}"

    @property
    def gateway(self) -> str:
        return str(ipaddress.IPv4Network(self.subnet)[1])

    @property
    def machines(self) -> list[Machine]:
        return [self._machine(index) for index in range(1, self.count + 1)]

    def _machine(self, index: int) -> Machine:
        directory = self.config.data_dir / "machines" / f"m{index}"
        config = CellConfig(directory, node_name=f"m{index}", engine=self.config.engine)
        address = str(ipaddress.IPv4Network(self.subnet)[_FIRST_HOST + index - 1])
        switch = self.config.run_dir / f"m{index}"
        return Machine(index, config, address, self.gateway, switch, f"veth{self.config.name}{index}")

    def find(self, name: str) -> Machine:
        """The machine called `name`.

        Raises:
            CorralError: there is none.
        """
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise CorralError(f"cannot find the machine {name}", f"the fleet has {span(self.count)}")


def hardware_address(link: str) -> str:
    """Of a cable or a bridge: the same after each boot, so that nobody's neighbour table is wrong."""
    digest = hashlib.sha256(link.encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))


def span(count: int) -> str:
    """The names of that many machines."""
    return "m1" if count == 1 else f"m1 to m{count}"


def load(config: CellConfig) -> Fleet | None:
    """The fleet of a data directory; None if it has none.

    Raises:
        CorralError: the file cannot be read.
    """
    path = config.data_dir / FILE
    try:
        said = json.loads(path.read_text())
        ipaddress.IPv4Network(said["subnet"])
        capacity = {str(name): int(amount) for name, amount in said["capacity"].items()}
        return Fleet(config, int(said["machines"]), said["subnet"], capacity)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorralError(f"cannot read {path}: {error}", "choose another --data-dir") from error


def save(fleet: Fleet) -> None:
    """Write it, all or nothing."""
    said = {"machines": fleet.count, "subnet": fleet.subnet, "capacity": dict(fleet.capacity)}
    write_private(fleet.config.data_dir / FILE, json.dumps(said, indent=2).encode())


def grown(fleet: Fleet, count: int, capacity: Mapping[str, int]) -> Fleet:
    """The fleet with `count` machines (0: as many as it has), of another capacity if one is given.

    Raises:
        CorralError: it has more.
    """
    if count and count < fleet.count:
        raise CorralError(
            f"cannot make a fleet of {count} machines in {fleet.config.data_dir}: it has {fleet.count}",
            f"say --machines {fleet.count} or more, or choose another --data-dir",
        )
    return replace(fleet, count=count or fleet.count, capacity=capacity or fleet.capacity)


def share(allocatable: Mapping[str, int], count: int, index: int) -> dict[str, int]:
    """What machine `index` of `count` offers of a real one: an equal part; devices, which do not divide, are the
    first one's."""
    parts = {name: allocatable[name] // count for name in ("cpu", "memory", "ephemeral-storage")}
    return {**parts, **({NVIDIA: 0} if index > 1 and NVIDIA in allocatable else {})}


def free_subnet(name: str, taken: Iterable[ipaddress.IPv4Network]) -> str:
    """A /24 that overlaps nothing in `taken`; which one is tried first depends on `name`.

    Raises:
        CorralError: all are taken.
    """
    known = list(taken)
    for network in _subnets(name):
        if not any(network.overlaps(other) for other in known):
            return str(network)
    raise CorralError(
        f"cannot choose a subnet for the machines: every /{_PREFIX} of {_SPACE} overlaps a route of this machine",
        "remove routes that are not needed: ip route",
    )


def _subnets(name: str) -> Iterator[ipaddress.IPv4Network]:
    count = 1 << (_PREFIX - _SPACE.prefixlen)
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % count
    for step in range(count):
        base = int(_SPACE.network_address) + (((start + step) % count) << (32 - _PREFIX))
        yield ipaddress.IPv4Network((base, _PREFIX))
