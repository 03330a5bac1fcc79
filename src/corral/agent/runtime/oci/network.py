"""The pod network of one cell on one machine: a bridge and its addresses through CNI plugins, one masquerade rule.

CNI does what is different for each pod (`bridge` with `host-local`, and `portmap` only where a pod has host ports).
What is the same for all pods, letting them out, is one nftables table for the cell, not rules for each pod. Which
subnet it is the cell decides when the machine registers: until then pods wait. The way to other machines' pods is
`corral.network`'s.
"""

import asyncio
import fcntl
import hashlib
import ipaddress
import json
import logging
import os
import re
import shutil
import socket
import struct
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from corral.agent.runtime import forwarding, spawn
from corral.agent.runtime.api import PortMapping, RuntimeFailure
from corral.kinds.podnetwork import PREFIX, SPACE, SPARE
from corral.kinds.podnetwork import first_free as first_free_subnet

log = logging.getLogger(__name__)

PLUGIN_DIRECTORIES = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
_CNI_VERSION = "1.0.0"
_SIOCGIFMTU = 0x8921


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A cell's pod network on this machine. `name` is at most 15 characters: it is the bridge's name as well."""

    name: str
    subnet: str
    mtu: int = 1500
    assigned: bool = True
    """Whether the subnet is this machine's; otherwise it is a proposal, and pods wait."""

    @property
    def bridge(self) -> str:
        return self.name

    @property
    def gateway(self) -> str:
        return str(next(ipaddress.IPv4Network(self.subnet).hosts()))


def first_free(cell: str, taken: Sequence[ipaddress.IPv4Network]) -> str:
    """The first subnet in the cell's own order that overlaps no network in `taken`.

    Raises:
        RuntimeFailure: all are taken.
    """
    found = first_free_subnet(cell, taken)
    if found is None:
        raise RuntimeFailure(
            "NetworkNotReady",
            f"cannot choose a pod network: every /{PREFIX} of {SPACE} and {SPARE} overlaps a route of this machine",
            "remove routes that are not needed: ip route",
        )
    return str(found)


def parse_routes(table: str) -> list[tuple[str, ipaddress.IPv4Network]]:
    """(interface, destination) of each line of /proc/net/route."""
    routes = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        address = int.from_bytes(bytes.fromhex(fields[1]), "little")
        mask = int.from_bytes(bytes.fromhex(fields[7]), "little")
        routes.append((fields[0], ipaddress.IPv4Network((address, mask.bit_count()))))
    return routes


def parse_destinations(tries: str) -> list[ipaddress.IPv4Network]:
    """Where the routes of all tables lead (/proc/net/fib_trie), but for the default: cells have tables of their own."""
    found, base = [], ""
    for line in tries.splitlines():
        match line.split():
            case ["|--", base]:
                pass
            case [length, _, "UNICAST", *_] if length != "/0":
                found.append(ipaddress.IPv4Network(base + length))
    return found


def choose(cell: str, machine: str = "") -> NetworkConfig:
    """A bridge name and a subnet for `cell` that collide with nothing on this machine now.

    The subnet is assigned if the bridge is there, because only an assigned one ever gets there. Which one is proposed
    otherwise depends on the machine's name, so that the machines of a cell seldom propose the same.
    """
    name = "corral-" + hashlib.sha256(cell.encode()).hexdigest()[:8]
    routes = parse_routes(Path("/proc/thread-self/net/route").read_text())
    own = [network for interface, network in routes if interface == name]
    uplinks = [interface for interface, network in routes if network.prefixlen == 0]
    mtu = min([1500, *map(_mtu, uplinks)])
    if own:
        return NetworkConfig(name, str(own[0]), mtu)
    taken = parse_destinations(Path("/proc/thread-self/net/fib_trie").read_text())
    return NetworkConfig(name, first_free(f"{cell} {machine}", taken), mtu, assigned=False)


def _mtu(interface: str) -> int:
    """Asked of a socket: /sys/class/net shows the namespace that sysfs was mounted in, which need not be ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        answer = fcntl.ioctl(control, _SIOCGIFMTU, struct.pack("16si12x", interface.encode(), 0))
    return int(struct.unpack("16si12x", answer)[1])


def bridge_configuration(config: NetworkConfig, directory: Path) -> dict[str, object]:
    """What the `bridge` plugin is given."""
    return {
        "cniVersion": _CNI_VERSION,
        "name": config.name,
        "type": "bridge",
        "bridge": config.bridge,
        "isGateway": True,
        "hairpinMode": True,
        "mtu": config.mtu,
        "ipam": {
            "type": "host-local",
            "dataDir": str(directory),
            "ranges": [[{"subnet": config.subnet}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }


def portmap_configuration(config: NetworkConfig, ports: Sequence[PortMapping], result: object) -> dict[str, object]:
    """What the `portmap` plugin is given, with the result of `bridge`."""
    mappings = [
        {
            "hostPort": port.host_port,
            "containerPort": port.container_port,
            "protocol": port.protocol.lower(),
            **({"hostIP": port.host_ip} if port.host_ip not in ("", "0.0.0.0") else {}),
        }
        for port in ports
    ]
    return {
        "cniVersion": _CNI_VERSION,
        "name": config.name,
        "type": "portmap",
        "capabilities": {"portMappings": True},
        "runtimeConfig": {"portMappings": mappings},
        "snat": True,
        "prevResult": result,
    }


def masquerade_rules(config: NetworkConfig) -> str:
    """nftables: what leaves the pods' subnet gets the machine's address, unless it goes to pods: those of the set
    `pods`, which `corral.network` fills with the other machines' subnets."""
    table = f"ip {config.name}"
    return (
        f"add table {table}\n"
        f"add set {table} pods {{ type ipv4_addr; flags interval; }}\n"
        f"add chain {table} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}\n"
        f"flush chain {table} postrouting\n"
        f"add rule {table} postrouting ip saddr {config.subnet} ip daddr != {config.subnet}"
        f" ip daddr != @pods ip daddr != 224.0.0.0/4 masquerade\n"
    )


class Network:
    """Gives sandboxes their addresses. `directory` holds host-local's leases."""

    def __init__(self, config: NetworkConfig, directory: Path) -> None:
        self._config = config
        self._directory = directory
        self._ready = asyncio.Lock()
        self._prepared = False
        self._assigned = asyncio.Event()
        if config.assigned:
            self._assigned.set()

    @property
    def config(self) -> NetworkConfig:
        """The network as it is now."""
        return self._config

    async def assign(self, subnet: str) -> None:
        """Take the subnet that the cell has assigned; pods that wait for one get their addresses from it.

        Pods that have addresses of another one keep them and lose their way out: that subnet is somebody else's.
        """
        if subnet != self._config.subnet:
            log.info("the pod network of this machine is %s", subnet)
            # The plugin refuses a bridge that has another address.
            await spawn.run(["ip", "address", "flush", "dev", self._config.bridge])
            self._config = replace(self._config, subnet=subnet)
            self._prepared = False
        self._assigned.set()

    async def restore(self) -> None:
        """Let pods out, whatever was done for that before."""
        self._prepared = False
        await self.prepare()

    async def prepare(self) -> None:
        """Let pods out: forwarding, the cell's masquerade rule; once."""
        async with self._ready:
            if self._prepared:
                return
            forward = Path("/proc/sys/net/ipv4/ip_forward")
            if forward.read_text().strip() != "1":
                log.info("enabling net.ipv4.ip_forward, so that pods reach beyond this machine")
                forward.write_text("1")
            done = await spawn.run(["nft", "-f", "-"], stdin=masquerade_rules(self._config).encode())
            if done.code:
                raise RuntimeFailure(
                    "NetworkNotReady", f"cannot write the cell's nftables rules: {done.words}", "install nftables"
                )
            await forwarding.accept(self._config.bridge)
            self._prepared = True

    async def add(self, sandbox_id: str, namespace: str, ports: Sequence[PortMapping]) -> list[str]:
        """Connect the network namespace at path `namespace`; returns its addresses.

        Raises:
            RuntimeFailure: a plugin refuses, in its own words.
        """
        await self._assigned.wait()
        await self.prepare()
        result = await self._plugin("ADD", bridge_configuration(self._config, self._directory), sandbox_id, namespace)
        if ports:
            await self._plugin("ADD", portmap_configuration(self._config, ports, result), sandbox_id, namespace)
        return [str(address["address"]).split("/")[0] for address in result["ips"]]

    async def remove(self, sandbox_id: str, namespace: str, ports: Sequence[PortMapping]) -> None:
        """Disconnect; `namespace` is empty when it is gone already. Safe to repeat."""
        if ports:
            await self._plugin("DEL", portmap_configuration(self._config, ports, None), sandbox_id, namespace)
        try:
            await self._plugin("DEL", bridge_configuration(self._config, self._directory), sandbox_id, namespace)
        except RuntimeFailure as error:
            if os.access(self._directory, os.W_OK):
                raise
            # Its lease stays on a disk that is lost; nobody else can get an address from there either.
            log.warning("leaving the address of %s: %s", sandbox_id, error.message)

    def keep_leases(self, sandbox_ids: Iterable[str]) -> None:
        """Give back the addresses of all others: a power cut can leave a lease that does not say whose it was."""
        owners = {_container_id(sandbox_id) for sandbox_id in sandbox_ids}
        # A file of host-local is named by the address, and begins with the line of its owner.
        for lease in (self._directory / self._config.name).glob("*.*.*.*"):
            if lease.read_text(errors="replace").partition("\n")[0].strip() not in owners:
                log.info("giving back %s, which no pod has", lease.name)
                lease.unlink()

    async def destroy(self) -> None:
        """Take the bridge and the rules away; only when no sandbox is left."""
        await spawn.run(["nft", "delete", "table", "ip", self._config.name])
        await forwarding.forget(self._config.bridge)
        await spawn.run(["ip", "link", "delete", self._config.bridge])
        shutil.rmtree(self._directory / self._config.name, ignore_errors=True)
        self._prepared = False

    async def _plugin(
        self, command: str, configuration: dict[str, object], sandbox_id: str, namespace: str
    ) -> "_Result":
        plugin = str(configuration["type"])
        if configuration.get("prevResult") is None:
            configuration = {name: value for name, value in configuration.items() if name != "prevResult"}
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": _container_id(sandbox_id),
            "CNI_NETNS": namespace,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": ":".join(PLUGIN_DIRECTORIES),
        }
        done = await _to_the_end(
            spawn.run([find_plugin(plugin)], stdin=json.dumps(configuration).encode(), env=environment)
        )
        if done.code:
            raise RuntimeFailure("NetworkNotReady", f"cannot {command} with CNI plugin {plugin}: {_message(done)}")
        result: _Result = json.loads(done.stdout) if done.stdout.strip() else {}
        return result


async def _to_the_end(work: Coroutine[Any, Any, spawn.Finished]) -> spawn.Finished:
    """Do `work` to its end even when cancelled: of a plugin that is killed, its own children go on, and would take an
    address after it was given back."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise


_Result = dict[str, list[dict[str, object]]]


def find_plugin(name: str) -> str:
    """The path of a CNI plugin.

    Raises:
        RuntimeFailure: it is not installed.
    """
    for directory in PLUGIN_DIRECTORIES:
        path = Path(directory, name)
        if path.exists():
            return str(path)
    raise RuntimeFailure(
        "NetworkNotReady",
        f"cannot find the CNI plugin {name} in {', '.join(PLUGIN_DIRECTORIES)}",
        "apt-get install -y --no-install-recommends containernetworking-plugins",
    )


def _container_id(sandbox_id: str) -> str:
    """CNI wants letters, digits, dots, dashes and underscores, a letter or digit first."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", sandbox_id).lstrip("_.-")


def _message(done: spawn.Finished) -> str:
    """CNI plugins write their error as JSON to stdout."""
    try:
        error = json.loads(done.stdout)
    except ValueError:
        return done.words
    return " ".join(str(error[key]) for key in ("msg", "details") if error.get(key))
