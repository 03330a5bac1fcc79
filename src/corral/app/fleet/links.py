"""A fleet's wires: a bridge on the host, and for each machine a network namespace with a cable to it.

The host is the machines' gateway and lets them out under its own address. What is cut is cut by nftables where packets
arrive (netdev, ingress), at one end of the cable for each direction, so that whoever sends learns nothing of it.
Everything here can be repeated, and finishes what a crash left half done.
"""

import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

from corral.agent.machine import resolver
from corral.agent.runtime import forwarding, spawn, syscalls, trees
from corral.agent.runtime.oci.sandbox import pinned
from corral.app.fleet.layout import Fleet, Machine, hardware_address
from corral.base.errors import CorralError
from corral.base.ids import new_uid

Direction: TypeAlias = Literal["in", "out", "both"]
_MOST_MTU: Final = 1500


async def taken() -> list[ipaddress.IPv4Network]:
    """The destinations of the host's routes, without the default one."""
    routes = json.loads(await _run("ip", "-j", "-4", "route"))
    return [ipaddress.IPv4Network(route["dst"]) for route in routes if route["dst"] != "default"]


async def lay(fleet: Fleet) -> None:
    """Make the bridge, give the host its address on it, and let the machines out.

    Raises:
        CorralError: a program is missing or refuses, in its own words.
    """
    bridge, prefix = fleet.bridge, ipaddress.IPv4Network(fleet.subnet).prefixlen
    if not await _exists(bridge):
        # With an address of its own: else it takes that of a cable, and changes it under everybody when that one goes.
        mac = hardware_address(bridge)
        await _run("ip", "link", "add", bridge, "mtu", str(await _mtu()), "address", mac, "type", "bridge")
    await _run("ip", "address", "replace", f"{fleet.gateway}/{prefix}", "dev", bridge)
    await _run("ip", "link", "set", bridge, "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    table = f"ip {bridge}"
    await _nft(
        f"add table {table}\nflush table {table}\n"
        f"add chain {table} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}\n"
        f"add rule {table} postrouting ip saddr {fleet.subnet} oifname != {bridge} masquerade\n"
    )
    await forwarding.accept(bridge)


async def is_laid(fleet: Fleet) -> bool:
    """Whether the bridge is there."""
    return await _exists(fleet.bridge)


async def tear(fleet: Fleet) -> None:
    """Take everything away that `lay` and `plug` have made. Safe to repeat."""
    for machine in fleet.machines:
        await unplug(machine)
    await _try("ip", "link", "delete", fleet.bridge)
    await _try("nft", "delete", "table", "ip", fleet.bridge)
    await forwarding.forget(fleet.bridge)


def is_plugged(machine: Machine) -> bool:
    """Whether the machine has its namespace and its cable."""
    return bool(machine.config.boot) and machine.namespace.exists() and pinned(machine.namespace)


async def plug(machine: Machine, fleet: Fleet) -> None:
    """Boot the machine's network: a new namespace, a cable, an address; nothing if it is there.

    Raises:
        CorralError: a program is missing or refuses, in its own words.
    """
    if is_plugged(machine):
        return
    await unplug(machine)
    path, link, mtu = str(machine.namespace), machine.link, str(await _mtu())
    machine.namespace.touch(mode=0o600)
    await _run("unshare", f"--net={path}", "true")
    peer = ("peer", "name", "eth0", "mtu", mtu, "address", hardware_address(link), "netns", path)
    await _run("ip", "link", "add", link, "mtu", mtu, "type", "veth", *peer)
    await _run("ip", "link", "set", link, "master", fleet.bridge, "up")
    prefix = ipaddress.IPv4Network(fleet.subnet).prefixlen
    lines = (
        "link set lo up",
        f"address add {machine.address}/{prefix} dev eth0",
        "link set eth0 up",
        f"route add default via {machine.gateway}",
    )
    await _run(*within(machine), "ip", "-batch", "-", stdin="\n".join(lines).encode())
    if upstream := _upstream():
        await redirect_names(machine, upstream)
    # Last: only with it the machine counts as plugged in.
    try:
        (machine.config.run_dir / "boot_id").write_text(new_uid() + "\n")
    except OSError as error:
        raise CorralError(
            f"cannot write {error.filename}: {error.strerror}", f"free space on the disk of {machine.name}"
        ) from error


def _upstream() -> str:
    """Whom the host's resolver asks, if that one is on the host's loopback and so not on the machines' own."""
    if "nameserver 127." not in Path("/etc/resolv.conf").read_text():
        return ""
    return next((server for server in resolver().machine_servers if not server.startswith("127.")), "")


async def redirect_names(machine: Machine, upstream: str) -> None:
    """Send what the machine asks resolvers on its loopback to `upstream`: it reads the host's /etc/resolv.conf."""
    # The kernel sends nothing from a loopback address out unless told to; the rules then give it another one.
    await syscalls.in_new_thread(lambda: _route_loopback(machine))
    await _nft(
        "add table ip names\n"
        "add chain ip names output { type nat hook output priority -100; policy accept; }\n"
        f"add rule ip names output ip daddr 127.0.0.0/8 meta l4proto {{ tcp, udp }} th dport 53 dnat to {upstream}\n"
        "add chain ip names postrouting { type nat hook postrouting priority srcnat; policy accept; }\n"
        "add rule ip names postrouting ip saddr 127.0.0.0/8 oifname eth0 masquerade\n",
        within(machine),
    )


def _route_loopback(machine: Machine) -> None:
    """Runs in a thread of its own: whose network /proc/sys/net is depends on who opens it."""
    syscalls.enter_network(machine.namespace)
    Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1")


async def unplug(machine: Machine) -> None:
    """Take cable and namespace away. Safe to repeat."""
    boot = machine.config.run_dir / "boot_id"
    with trees.unless_lost(boot):
        boot.unlink(missing_ok=True)
    await _try("ip", "link", "delete", machine.link)
    await _try("nft", "delete", "table", "netdev", machine.link)
    while syscalls.unmount(str(machine.namespace)):
        continue
    with trees.unless_lost(machine.namespace):
        machine.namespace.unlink(missing_ok=True)


async def pull(machine: Machine) -> None:
    """Take the link down: from here on nothing arrives and nothing gets out."""
    await _run("ip", "link", "set", machine.link, "down")


async def cut(machine: Machine, direction: Direction) -> None:
    """Drop all packets that the machine sends (`out`), that are sent to it (`in`), or both."""
    await mend(machine)
    name = machine.link
    if direction != "in":
        await _nft(_drop(name, machine.link))
    if direction != "out":
        await _nft(_drop(name, "eth0"), within(machine))


async def mend(machine: Machine) -> None:
    """Undo `cut`."""
    await _try("nft", "delete", "table", "netdev", machine.link)
    await _try(*within(machine), "nft", "delete", "table", "netdev", machine.link)


def within(machine: Machine) -> tuple[str, ...]:
    """What to put before a command so that it runs on the machine's network, and on nothing else of its own: what is
    mounted there is to outlive it."""
    return ("nsenter", f"--net={machine.namespace}", "--")


def _drop(table: str, device: str) -> str:
    return (
        f"add table netdev {table}\n"
        f'add chain netdev {table} cut {{ type filter hook ingress device "{device}" priority 0; policy drop; }}\n'
    )


async def _mtu() -> int:
    """Of the host's way out, so that the machines send nothing that does not fit."""
    routes = json.loads(await _run("ip", "-j", "-4", "route", "show", "default"))
    links = [json.loads(await _run("ip", "-j", "link", "show", "dev", route["dev"])) for route in routes]
    return min([_MOST_MTU, *(int(link[0]["mtu"]) for link in links)])


async def _exists(link: str) -> bool:
    return not (await _try("ip", "link", "show", "dev", link)).code


async def _nft(rules: str, prefix: Sequence[str] = ()) -> None:
    await _run(*prefix, "nft", "-f", "-", stdin=rules.encode())


async def _run(*argv: str, stdin: bytes = b"") -> bytes:
    done = await _try(*argv, stdin=stdin)
    if done.code:
        raise CorralError(
            f"cannot `{' '.join(argv)}`: {done.words}", "run as root; `corral doctor` says what is missing"
        )
    return done.stdout


async def _try(*argv: str, stdin: bytes = b"") -> spawn.Finished:
    try:
        return await spawn.run(argv, stdin=stdin)
    except FileNotFoundError as error:
        raise CorralError(f"cannot find the program {argv[0]}", "see scripts/system-packages") from error
