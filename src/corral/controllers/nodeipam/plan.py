"""Which subnet a machine gets, and what other machines are told of it. Pure."""

from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv4Network

from corral.kinds.podnetwork import assigned, proposal
from corral.kinds.types import Obj


def assign(node: Obj, taken: Callable[[], Iterable[IPv4Network]]) -> IPv4Network | None:
    """The subnet to give a machine that has none: the one that it proposes, if it overlaps nothing in `taken`.

    None: there is nothing to give. A machine whose proposal is taken sees that and proposes another one; it alone knows
    which addresses mean something else where it stands.
    """
    if assigned(node):
        return None
    wanted = proposal(node)
    return wanted if wanted is not None and clash([wanted], taken()) is None else None


def host_subnet(node: Obj) -> Obj:
    """The HostSubnet of a machine that has subnets; without `hostIP` until the machine has said its address."""
    return {
        "apiVersion": "corral.dev/v1",
        "kind": "HostSubnet",
        "metadata": {"name": node["metadata"]["name"]},
        "spec": {
            **({"hostIP": address} if (address := _address(node)) else {}),
            "podCIDRs": [str(network) for network in assigned(node)],
        },
    }


def clash(networks: Collection[IPv4Network], taken: Iterable[IPv4Network]) -> IPv4Network | None:
    """The first of `taken` that overlaps one of `networks`."""
    return next((other for other in taken if any(other.overlaps(one) for one in networks)), None)


def _address(node: Obj) -> str:
    for address in (node.get("status") or {}).get("addresses") or ():
        if address.get("type") == "InternalIP":
            try:
                return str(IPv4Address(address.get("address", "")))
            except ValueError:
                continue
    return ""
