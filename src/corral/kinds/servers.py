"""The servers of a cell, as their Leases in kube-system tell of them (KEP-1965)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from corral.base.clock import parse_rfc3339
from corral.kinds.types import Obj

NAMESPACE: Final = "kube-system"
IDENTITY_LABEL: Final = "apiserver.kubernetes.io/identity"
URL_ANNOTATION: Final = "corral.dev/url"
MANAGER_LEASE: Final = "corral-manager"
"""Whose holder's controllers and scheduler act."""
ALIVE: Final = timedelta(seconds=40)
"""Who has not been heard of for longer may be down."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server as its Lease tells of it."""

    url: str
    renewed: datetime

    def silent(self, now: datetime) -> timedelta:
        """For how long it has not been heard of."""
        return now - self.renewed


def peers(leases: Iterable[Obj]) -> list[Peer]:
    """The servers that Leases tell of, by URL."""
    found = []
    for lease in leases:
        metadata = lease["metadata"]
        url = (metadata.get("annotations") or {}).get(URL_ANNOTATION)
        if url and IDENTITY_LABEL in (metadata.get("labels") or {}):
            renewed = lease["spec"].get("renewTime") or metadata["creationTimestamp"]
            found.append(Peer(url, parse_rfc3339(renewed)))
    return sorted(found, key=lambda peer: peer.url)


def identity(url: str, token: str) -> str:
    """What the server at `url` holds `MANAGER_LEASE` as; `token` tells its processes apart."""
    return f"{url}_{token}"


def leader(leases: Iterable[Obj]) -> str:
    """The URL of the server that holds `MANAGER_LEASE`; empty: nobody does."""
    holders = (lease["spec"].get("holderIdentity") for lease in leases if lease["metadata"]["name"] == MANAGER_LEASE)
    return (next(holders, None) or "").rpartition("_")[0]
