"""What `ip -json` says of a machine, in the plan's words. Pure."""

import json
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from corral.network.plan import Direct, Foreign, Route, Tunnelled


def addresses(text: str) -> list[tuple[str, IPv4Interface]]:
    """Of `ip -json -4 address`: (link, address) pairs."""
    return [
        (link["ifname"], IPv4Interface(f"{info['local']}/{info['prefixlen']}"))
        for link in _items(text)
        for info in link.get("addr_info") or ()
        if "local" in info
    ]


def own_routes(text: str, table: str) -> frozenset[Route]:
    """Of `ip -json -4 route show table all proto 67`: those in our table."""
    found = (_own(pairs) for pairs in _pairs(text) if dict(pairs).get("table") == table)
    return frozenset(route for route in found if route is not None)


def others_routes(text: str, table: str) -> dict[str, list[Foreign]]:
    """Of the same: those of other cells, by their tables."""
    found: dict[str, list[Foreign]] = {}
    for pairs in _pairs(text):
        fields = dict(pairs)
        where = str(fields.get("table", ""))
        network = next((value for name, value in pairs if name == "dst"), "default")
        if where not in ("", table) and network != "default":
            device = f"{fields.get('dev', '')} in table {where}"
            found.setdefault(where, []).append(Foreign(IPv4Network(network), device, connected=False))
    return found


def foreign_routes(text: str) -> list[Foreign]:
    """Of `ip -json -4 route show`: routes that are not ours; without the default route."""
    return [
        Foreign(IPv4Network(route["dst"]), str(route["dev"]), "gateway" not in route and "via" not in route)
        for route in _items(text)
        if route["dst"] != "default" and "dev" in route
    ]


def rules(text: str) -> list[tuple[int, str]]:
    """Of `ip -json -4 rule`: (priority, table) pairs."""
    return [(int(rule["priority"]), str(rule.get("table", ""))) for rule in _items(text)]


def _own(pairs: Sequence[tuple[str, Any]]) -> Route | None:
    # An encapsulated route has two fields `dst`: the network, and the tunnel's other end.
    targets = [str(value) for name, value in pairs if name == "dst"]
    fields = dict(pairs)
    if not targets or targets[0] == "default":
        return None
    network = IPv4Network(targets[0])
    if len(targets) > 1:
        return Tunnelled(network, IPv4Address(targets[1]))
    if "gateway" not in fields:
        return None
    return Direct(network, IPv4Address(fields["gateway"]), str(fields.get("dev", "")))


def _pairs(text: str) -> Iterable[Sequence[tuple[str, Any]]]:
    # The outermost value is a list of such lists; of nested objects only the names of fields are looked at.
    found: list[Sequence[tuple[str, Any]]] = json.loads(text, object_pairs_hook=list) if text.strip() else []
    return found


def _items(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text) if text.strip() else []
    return found
