"""Which subnet a machine asks for, and what other machines are told of it. Pure."""

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network

from corral.kinds.podnetwork import TUNNEL, assigned, proposal
from corral.kinds.types import Obj


def proposed(node: Obj) -> tuple[IPv4Network, ...]:
    """What the machine proposes, if it may have such a subnet."""
    wanted = proposal(node)
    return (wanted,) if wanted is not None else ()


def clash(networks: Collection[IPv4Network], taken: Iterable[IPv4Network]) -> IPv4Network | None:
    """The first of `taken` that overlaps one of `networks`."""
    return next((other for other in taken if any(other.overlaps(one) for one in networks)), None)


def host_subnet(node: Obj) -> Obj:
    """The HostSubnet of a machine that has subnets; without `hostIP` until the machine has said its address."""
    return {
        "apiVersion": "corral.dev/v1",
        "kind": "HostSubnet",
        "metadata": {"name": node["metadata"]["name"]},
        "spec": {
            **({"hostIP": address} if (address := _address(node)) else {}),
            "podCIDRs": [str(network) for network in assigned(node)],
            **({"tunnel": True} if (node["metadata"].get("labels") or {}).get(TUNNEL) == "true" else {}),
        },
    }


def _address(node: Obj) -> str:
    for address in (node.get("status") or {}).get("addresses") or ():
        if address.get("type") == "InternalIP":
            try:
                return str(IPv4Address(address.get("address", "")))
            except ValueError:
                continue
    return ""
