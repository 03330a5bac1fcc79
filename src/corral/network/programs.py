"""What the kernel is told, in the words of `ip` and `nft`, and the running of these programs.

All our routes stand in a routing table of the cell's own, which a rule puts before the machine's main table. So what is
ours needs no guessing: everything in that table, and nothing else. Nobody else's routes are ever touched. Of several
cells on one machine the one whose rule is first has its way; the others say whose pods they cannot reach.

The VXLAN device carries plain IP (VXLAN-GPE) and has no addresses of other machines in it: each route says itself which
machine its packets go to (a "lightweight tunnel"). So there are no neighbour and forwarding tables to be kept.
"""

import asyncio
import hashlib
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from corral.base.errors import CorralError
from corral.network import reading
from corral.network.plan import Changes, Direct, Machine, Plan, Route

PORT = 4790
"""UDP port of VXLAN-GPE (IANA)."""
PROTOCOL = 67
"""Marks our routes and rules for people (`ip route show table all proto 67`); none that iproute2 knows."""
PRIORITY = 30000
"""Of our rule: before the main table's (32766)."""
_VNI = 1
_OVERHEAD = 36
"""Bytes that VXLAN-GPE adds: IPv4 20, UDP 8, its own header 8."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Names:
    """What a cell's things in the kernel are called."""

    table: str
    """Of nftables; also the name of the pods' bridge."""
    mtu: int = 1500
    """Of the pods' bridge."""

    @property
    def device(self) -> str:
        """The VXLAN device; at most 15 characters."""
        return f"cvx-{self._digest[:8]}"

    @property
    def routes(self) -> int:
        """The number of the routing table."""
        return 0x10000000 | int(self._digest[:7], 16)

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.table.encode()).hexdigest()


class ProgramFailed(CorralError):
    """`ip` or `nft` refused; in its own words."""


class Programs:
    """Reads and writes one machine's network.

    Args:
        enter: what comes before each command to run it in another network namespace.
    """

    def __init__(self, names: Names, enter: Sequence[str] = ()) -> None:
        self.names = names
        self._enter = tuple(enter)
        self._read: tuple[tuple[str, ...], Machine] = ((), Machine())

    async def read(self) -> Machine:
        """The machine as it is; the very object of the last time while nothing has changed.

        Raises:
            ProgramFailed: `ip` is not installed, or refuses.
        """
        addresses = await self._run("ip", "-json", "-4", "address")
        foreign = await self._run("ip", "-json", "-4", "route", "show")
        marked = await self._run("ip", "-json", "-4", "route", "show", "table", "all", "proto", str(PROTOCOL))
        shared = reading.others_routes(marked, str(self.names.routes))
        rules = await self._run("ip", "-json", "-4", "rule") if shared else ""
        texts = (addresses, foreign, marked, await self._table(), rules)
        if self._read[0] != texts:
            self._read = texts, _machine(self.names, *texts)
        return self._read[1]

    async def filter(self, plan: Plan) -> str:
        """Say whose packets keep their source address, and whose tunnelled ones are accepted; gives the table then."""
        await self._run("nft", "-f", "-", stdin=filter_rules(self.names, plan))
        return await self._table()

    async def _table(self) -> str:
        return await self._run("nft", "list", "table", "ip", self.names.table, missing_ok=True)

    async def route(self, changes: Changes, *, tunnels: bool, own: IPv4Network | None) -> None:
        """Make the changes; `own` is the subnet of this machine's pods, if it has any."""
        if tunnels:
            await self._make_device(own)
        if changes.put and (PRIORITY, str(self.names.routes)) not in await self._rules():
            await self._run("ip", "-4", "rule", *rule(self.names, "add"))
        lines = [*(f"route del {line}" for line in map(self._line, changes.drop)), *self._puts(changes.put)]
        if lines:
            await self._run("ip", "-4", "-force", "-batch", "-", stdin="\n".join(lines) + "\n")

    async def remove(self) -> None:
        """Take all of it away; safe to repeat."""
        while (PRIORITY, str(self.names.routes)) in await self._rules():
            await self._run("ip", "-4", "rule", *rule(self.names, "del"))
        await self._run("ip", "-4", "route", "flush", "table", str(self.names.routes), missing_ok=True)
        await self._run("ip", "link", "delete", self.names.device, missing_ok=True)

    def _puts(self, routes: Iterable[Route]) -> list[str]:
        return [f"route replace {self._line(route)}" for route in routes]

    def _line(self, route: Route) -> str:
        return route_line(self.names, route)

    async def _rules(self) -> list[tuple[int, str]]:
        return reading.rules(await self._run("ip", "-json", "-4", "rule"))

    async def _make_device(self, own: IPv4Network | None) -> None:
        device = self.names.device
        kind = ("type", "vxlan", "external", "gpe", "dstport", str(PORT))
        await self._run("ip", "link", "add", device, "mtu", str(self.names.mtu - _OVERHEAD), *kind, missing_ok=True)
        if own is not None:
            # The source of what the machine itself sends to pods: so that answers come back through the tunnel, too.
            await self._run("ip", "address", "replace", f"{own.network_address}/32", "dev", device)
        await self._run("ip", "link", "set", device, "up")

    async def _run(self, *argv: str, stdin: str = "", missing_ok: bool = False) -> str:
        done = await asyncio.to_thread(_call, (*self._enter, *argv), stdin)
        if done.returncode and not missing_ok:
            words = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise ProgramFailed(f"cannot {' '.join(argv)}: {words}")
        return "" if done.returncode else done.stdout


def _machine(names: Names, addresses: str, foreign: str, marked: str, table: str, rules: str) -> Machine:
    own = str(names.routes)
    others = reading.others_routes(marked, own)
    tables = [name for _, name in reading.rules(rules)]
    # The kernel goes by the first table that has a route: an earlier cell's counts, a later cell minds ours.
    earlier = tables[: tables.index(own)] if own in tables else tables
    return Machine(
        reading.addresses(addresses),
        [*reading.foreign_routes(foreign), *(route for name in earlier for route in others.get(name, ()))],
        reading.own_routes(marked, own),
        table,
        tuple(route.network for routes in others.values() for route in routes),
    )


def _call(argv: Sequence[str], stdin: str) -> "subprocess.CompletedProcess[str]":
    """Waits, so in a thread of its own: the event loop's way of starting programs copies the agent's page tables."""
    environment = {"PATH": _PATH, "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError as error:
        raise ProgramFailed(
            f"cannot find the program {os.path.basename(argv[0])}",
            "apt-get install -y --no-install-recommends iproute2 nftables",
        ) from error


def rule(names: Names, verb: str) -> list[str]:
    """The arguments of `ip rule`."""
    return [verb, "priority", str(PRIORITY), "lookup", str(names.routes), "protocol", str(PROTOCOL)]


def route_line(names: Names, route: Route) -> str:
    """What comes after `route replace` or `route del`."""
    if isinstance(route, Direct):
        way = f"via {route.via} dev {route.device}"
    else:
        way = f"encap ip id {_VNI} dst {route.remote} dev {names.device}"
    return f"{route.network} {way} proto {PROTOCOL} table {names.routes}"


def filter_rules(names: Names, plan: Plan) -> str:
    """nftables: the sets `pods` and `machines`, and who may send into the tunnel. One transaction."""
    table = f"ip {names.table}"
    lines = [
        f"add table {table}",
        f"add set {table} pods {{ type ipv4_addr; flags interval; }}",
        f"flush set {table} pods",
        *_elements(f"{table} pods", plan.pods),
        f"add set {table} machines {{ type ipv4_addr; }}",
        f"flush set {table} machines",
        *_elements(f"{table} machines", plan.machines),
        f"add chain {table} tunnel {{ type filter hook input priority filter; policy accept; }}",
        f"flush chain {table} tunnel",
    ]
    if plan.tunnels:
        lines.append(f"add rule {table} tunnel udp dport {PORT} ip saddr != @machines drop")
    return "\n".join(lines) + "\n"


def _elements(where: str, values: Iterable[object]) -> list[str]:
    listed = ", ".join(map(str, values))
    return [f"add element {where} {{ {listed} }}"] if listed else []
