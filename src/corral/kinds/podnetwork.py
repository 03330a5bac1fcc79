"""Which machine's pods have which addresses: the subnets of the pod network and the object that tells them. Pure.

A machine proposes a subnet that collides with nothing it knows (an annotation of its Node); a controller assigns it
(`spec.podCIDRs`) and publishes it as the HostSubnet of the same name, from which all machines make their routes. The
kind is OpenShift's of that name, in a group of ours.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from corral.kinds.types import Obj

PROPOSAL: Final = "corral.dev/proposed-pod-cidr"
"""Annotation of a Node: the subnet that its machine would like to have."""
TUNNEL: Final = "corral.dev/tunnel"
"""Label of a Node: with `true`, pods' packets from and to its machine are tunnelled on a common link, too."""
SPACE: Final = IPv4Network("10.88.0.0/13")
SPARE: Final = IPv4Network("172.24.0.0/14")
"""For machines on which the whole of SPACE means something else, as it does where 10.0.0.0/8 leads into an office."""
PREFIX: Final = 24


@dataclass(frozen=True, slots=True)
class HostSubnet:
    """The addresses of one machine's pods. `host` is the machine's own address, empty until it is known."""

    name: str
    host: str
    networks: tuple[IPv4Network, ...]
    tunnel: bool = False


def candidates(seed: str) -> Iterator[IPv4Network]:
    """All subnets of SPACE, then of SPARE; which one comes first depends on `seed`."""
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big")
    for space in (SPACE, SPARE):
        count = 1 << (PREFIX - space.prefixlen)
        for step in range(count):
            base = int(space.network_address) + (((start + step) % count) << (32 - PREFIX))
            yield IPv4Network((base, PREFIX))


def first_free(seed: str, taken: Iterable[IPv4Network]) -> IPv4Network | None:
    """The first candidate that overlaps nothing in `taken`; None: there is none."""
    known = [network for network in taken if network.overlaps(SPACE) or network.overlaps(SPARE)]
    return next((one for one in candidates(seed) if not any(one.overlaps(other) for other in known)), None)


def proposal(node: Obj) -> IPv4Network | None:
    """The subnet that a machine proposes; None if it proposes none, or one that it may not have."""
    network = _network((node["metadata"].get("annotations") or {}).get(PROPOSAL))
    if network is None or network.prefixlen != PREFIX:
        return None
    return network if network.subnet_of(SPACE) or network.subnet_of(SPARE) else None


def assigned(node: Obj) -> tuple[IPv4Network, ...]:
    """The subnets of a Node's pods (IPv4)."""
    spec = node.get("spec") or {}
    texts = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    return _networks(texts)


def read(obj: Obj) -> HostSubnet:
    """A HostSubnet object; what is no IPv4 address or network is left out."""
    spec = obj.get("spec") or {}
    host = _address(spec.get("hostIP"))
    return HostSubnet(obj["metadata"]["name"], host, _networks(spec.get("podCIDRs") or ()), bool(spec.get("tunnel")))


def _networks(texts: Iterable[object]) -> tuple[IPv4Network, ...]:
    found = map(_network, texts)
    return tuple(network for network in found if network is not None)


# Both are remembered: all of a cell's are looked at again with each that comes.


@lru_cache(maxsize=8192)
def _address(text: object) -> str:
    try:
        return str(IPv4Address(str(text)))
    except ValueError:
        return ""


@lru_cache(maxsize=8192)
def _network(text: object) -> IPv4Network | None:
    try:
        return IPv4Network(str(text))
    except ValueError:
        return None
