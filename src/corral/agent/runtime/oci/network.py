"""The pod network of one cell on one machine: a bridge and its addresses through CNI plugins, one masquerade rule.

CNI does what is different for each pod (`bridge` with `host-local`, and `portmap` only where a pod has host ports).
What is the same for all pods, letting them out, is one nftables table for the cell, not rules for each pod.
"""

import asyncio
import fcntl
import hashlib
import ipaddress
import json
import logging
import re
import shutil
import socket
import struct
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.agent.runtime import spawn
from corral.agent.runtime.api import PortMapping, RuntimeFailure

log = logging.getLogger(__name__)

PLUGIN_DIRECTORIES = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
_CNI_VERSION = "1.0.0"
_SPACE = ipaddress.IPv4Network("10.88.0.0/13")
_PREFIX = 24
_SIOCGIFMTU = 0x8921


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A cell's pod network on this machine. `name` is at most 15 characters: it is the bridge's name as well."""

    name: str
    subnet: str
    mtu: int = 1500

    @property
    def bridge(self) -> str:
        return self.name

    @property
    def gateway(self) -> str:
        return str(next(ipaddress.IPv4Network(self.subnet).hosts()))


def candidates(cell: str) -> Iterable[str]:
    """All the subnets a cell may have, its own first: the /24s of 10.88.0.0/13, from a hash of the cell's name on."""
    count = 1 << (_PREFIX - _SPACE.prefixlen)
    start = int.from_bytes(hashlib.sha256(cell.encode()).digest()[:4], "big") % count
    for step in range(count):
        base = int(_SPACE.network_address) + (((start + step) % count) << (32 - _PREFIX))
        yield f"{ipaddress.IPv4Address(base)}/{_PREFIX}"


def first_free(cell: str, taken: Sequence[ipaddress.IPv4Network]) -> str:
    """The first candidate that overlaps no network in `taken`.

    Raises:
        RuntimeFailure: all are taken.
    """
    for subnet in candidates(cell):
        network = ipaddress.IPv4Network(subnet)
        if not any(network.overlaps(other) for other in taken):
            return subnet
    raise RuntimeFailure(
        "NetworkNotReady",
        f"cannot choose a pod network: every /{_PREFIX} of {_SPACE} overlaps a route of this machine",
        "give the cell a subnet of its own",
    )


def parse_routes(table: str) -> list[tuple[str, ipaddress.IPv4Network]]:
    """(interface, destination) of each line of /proc/net/route."""
    routes = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        address = int.from_bytes(bytes.fromhex(fields[1]), "little")
        mask = int.from_bytes(bytes.fromhex(fields[7]), "little")
        routes.append((fields[0], ipaddress.IPv4Network((address, mask.bit_count()))))
    return routes


def choose(cell: str) -> NetworkConfig:
    """A bridge name and a subnet that belong to `cell` and collide with nothing on this machine now."""
    name = "corral-" + hashlib.sha256(cell.encode()).hexdigest()[:8]
    routes = parse_routes(Path("/proc/thread-self/net/route").read_text())
    own = [network for interface, network in routes if interface == name]
    uplinks = [interface for interface, network in routes if network.prefixlen == 0]
    mtu = min([1500, *map(_mtu, uplinks)])
    if own:
        return NetworkConfig(name, str(own[0]), mtu)
    taken = [network for interface, network in routes if network.prefixlen]
    return NetworkConfig(name, first_free(cell, taken), mtu)


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
    """nftables: what leaves the pods' subnet for elsewhere gets the machine's address."""
    table = f"ip {config.name}"
    return (
        f"add table {table}\nflush table {table}\n"
        f"add chain {table} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}\n"
        f"add rule {table} postrouting ip saddr {config.subnet} ip daddr != {config.subnet}"
        f" ip daddr != 224.0.0.0/4 masquerade\n"
    )


class Network:
    """Gives sandboxes their addresses. `directory` holds host-local's leases."""

    def __init__(self, config: NetworkConfig, directory: Path) -> None:
        self._config = config
        self._directory = directory
        self._ready = asyncio.Lock()
        self._prepared = False

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
            await self._accept_forwarding()
            self._prepared = True

    async def _accept_forwarding(self) -> None:
        """Where somebody (docker) drops forwarded packets by policy, let this cell's bridge through."""
        if shutil.which("iptables", path=spawn.PATH) is None:
            return
        rules = await spawn.run(["iptables", "-w", "-S", "FORWARD"])
        if b"-P FORWARD ACCEPT" in rules.stdout:
            return
        for rule in self._forward_rules():
            if (await spawn.run(["iptables", "-w", "-C", "FORWARD", *rule])).code:
                await spawn.run(["iptables", "-w", "-I", "FORWARD", "1", *rule])

    def _forward_rules(self) -> list[list[str]]:
        return [[flag, self._config.bridge, "-j", "ACCEPT"] for flag in ("-i", "-o")]

    async def add(self, sandbox_id: str, namespace: str, ports: Sequence[PortMapping]) -> list[str]:
        """Connect the network namespace at path `namespace`; returns its addresses.

        Raises:
            RuntimeFailure: a plugin refuses, in its own words.
        """
        await self.prepare()
        result = await self._plugin("ADD", bridge_configuration(self._config, self._directory), sandbox_id, namespace)
        if ports:
            await self._plugin("ADD", portmap_configuration(self._config, ports, result), sandbox_id, namespace)
        return [str(address["address"]).split("/")[0] for address in result["ips"]]

    async def remove(self, sandbox_id: str, namespace: str, ports: Sequence[PortMapping]) -> None:
        """Disconnect; `namespace` is empty when it is gone already. Safe to repeat."""
        if ports:
            await self._plugin("DEL", portmap_configuration(self._config, ports, None), sandbox_id, namespace)
        await self._plugin("DEL", bridge_configuration(self._config, self._directory), sandbox_id, namespace)

    async def destroy(self) -> None:
        """Take the bridge and the rules away; only when no sandbox is left."""
        await spawn.run(["nft", "delete", "table", "ip", self._config.name])
        if shutil.which("iptables", path=spawn.PATH) is not None:
            for rule in self._forward_rules():
                await spawn.run(["iptables", "-w", "-D", "FORWARD", *rule])
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
