"""Which servers a cell has: each says so, and machines hear of it.

Each server that shares its store keeps a Lease in kube-system with its URL, as kube-apiserver does (KEP-1965). What
follows from all of these Leases stands in the ConfigMap `cluster-info`, which anybody may read and machines watch:
every server writes the same there, so it does not matter which one does. A server that is down for a while stays on the
list; one that was not heard of for an hour goes.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import yaml

from corral.apiserver.auth import kubeconfig
from corral.apiserver.auth.api import User
from corral.apiserver.auth.pki import MASTERS, Pki
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.base.clock import Clock, rfc3339_micro
from corral.base.errors import CorralError
from corral.client.client import Client
from corral.kinds.resources import CONFIG_MAPS, LEASES
from corral.kinds.servers import ALIVE, IDENTITY_LABEL, NAMESPACE, URL_ANNOTATION, Peer, peers
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

_log = logging.getLogger(__name__)

INFO: Final = "cluster-info"
INFO_NAMESPACE: Final = "kube-public"
_RENEW_SECONDS: Final = 10.0
_KEPT: Final = timedelta(hours=1)


def told(info: Obj) -> tuple[str, ...]:
    """The servers that `cluster-info` names."""
    data = info.get("data") or {}
    return tuple(data.get("servers", "").split()) or tuple(filter(None, [data.get("server")]))


def known(servers: Sequence[str], reached: str, machine: str) -> tuple[str, ...]:
    """The servers that a machine goes by, which hears of `servers` through `reached`: that one first.

    An address that works is kept although the cell knows the server by another one (through NAT, or a name); where
    there is one server it is the only one. The others stand in an order of each machine's own, so that not all machines
    of a server that dies go to the same one.
    """
    others = [server for server in servers if server != reached]
    if len(servers) < 2:
        return (reached,)
    return (reached, *sorted(others, key=lambda url: hashlib.sha256(f"{machine} {url}".encode()).digest()))


class Roster:
    """This server's part: it tells of itself and keeps the list.

    Args:
        url: where machines reach this server.
        shared: whether other servers may use the same store.
        changed: hears of the servers when there are others than before.
    """

    def __init__(
        self,
        server: ApiServer,
        pki: Pki,
        url: str,
        clock: Clock,
        *,
        shared: bool,
        changed: Callable[[Sequence[str]], None] = lambda servers: None,
    ) -> None:
        self.url = url
        self._server = server
        self._pki = pki
        self._clock = clock
        self._shared = shared
        self._changed = changed
        self._told: list[str] = []
        user = User("system:apiserver", (MASTERS,))
        self._client = Client(InProcessTransport(server, user), field_manager="corral")

    def others(self) -> list[str]:
        """The URLs of the other servers, those that were heard of last first."""
        found = [peer for peer in self._peers() if peer.url != self.url]
        return [peer.url for peer in sorted(found, key=lambda peer: peer.renewed, reverse=True)]

    def _peers(self) -> list[Peer]:
        return peers(self._server.core.all(LEASES, NAMESPACE)) if self._shared else []

    async def run(self) -> None:
        """Tell for ever; failures are logged, and told again."""
        while True:
            await self._clock.sleep(_RENEW_SECONDS)
            try:
                await self.tell()
            except (StatusError, OSError, CorralError) as error:
                _log.warning("cannot tell where this server is, will retry: %s", error)

    async def tell(self) -> None:
        """Renew this server's Lease and bring the list up to date.

        Raises:
            StatusError: the store does not take it.
        """
        if self._shared:
            await self._renew()
        now = self._clock.now()
        heard = [peer for peer in self._peers() if peer.silent(now) < _KEPT]
        for peer in self._peers():
            if peer not in heard:
                await self._forget(peer)
        servers = [peer.url for peer in heard]
        if servers != self._told:
            self._changed(servers)
            self._told = servers
        found = self._server.core.find(CONFIG_MAPS, INFO_NAMESPACE, INFO)
        data = self._info(found or {}, heard, now)
        if found is None:
            metadata = {"name": INFO, "namespace": INFO_NAMESPACE}
            await self._client.create(
                CONFIG_MAPS, {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": data}
            )
        elif found.get("data") != data:
            await self._client.patch(CONFIG_MAPS, INFO, {"data": data}, INFO_NAMESPACE)

    def _info(self, found: Obj, heard: Sequence[Peer], now: datetime) -> dict[str, str]:
        """What a machine needs to join, as kubeadm publishes it: where the API is and who its authority is; no secrets.

        One server that lives is the one to join by.
        """
        servers = [peer.url for peer in heard] or [self.url]
        alive = {peer.url for peer in heard if peer.silent(now) < ALIVE}
        present = (found.get("data") or {}).get("server", "")
        first = present if present in alive else self.url
        config = yaml.safe_dump(kubeconfig.cluster_only(first, self._pki.ca_pem))
        return {
            "kubeconfig": config,
            "server": first,
            "servers": "\n".join(servers),
            "ca.crt": self._pki.ca_pem.decode(),
            "ca-hash": self._pki.fingerprint,
        }

    async def _renew(self) -> None:
        name = _lease_name(self.url)
        spec = {
            "holderIdentity": self.url,
            "leaseDurationSeconds": int(_KEPT.total_seconds()),
            "renewTime": rfc3339_micro(self._clock.now()),
        }
        if self._server.core.find(LEASES, NAMESPACE, name) is not None:
            await self._client.patch(LEASES, name, {"spec": spec}, NAMESPACE)
            return
        metadata = {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {IDENTITY_LABEL: "kube-apiserver"},
            "annotations": {URL_ANNOTATION: self.url},
        }
        await self._client.create(
            LEASES, {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": metadata, "spec": spec}
        )

    async def _forget(self, peer: Peer) -> None:
        try:
            await self._client.delete(LEASES, _lease_name(peer.url), NAMESPACE)
        except StatusError as error:
            if error.code != 404:
                raise


def _lease_name(url: str) -> str:
    return f"apiserver-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
