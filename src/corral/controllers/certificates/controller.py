"""Answers requests for certificates, signs what was approved, and forgets what is old."""

import base64
from collections.abc import Callable, Iterable
from copy import deepcopy

from corral.client.informer import Informer
from corral.controllers.certificates.plan import (
    CLIENT,
    Deny,
    Grant,
    Machines,
    forget_in,
    is_own,
    judge,
    read,
    to_sign,
    uid_for,
)
from corral.kinds import conditions, machineidentities
from corral.kinds.resources import CERTIFICATE_SIGNING_REQUESTS, MACHINE_IDENTITIES, NODES
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Tools

Sign = Callable[[bytes, bool, int | None, str], bytes]
"""A certificate (PEM) for a request (PEM): for a client or else for a server, for so many seconds if it says so, with
this UID in its subject."""


class CertificateController:
    """Gives machines their certificates.

    Args:
        sign: makes a certificate of what was approved; `ValueError` if it cannot.
    """

    name = "certificate-controller"
    reads = (CERTIFICATE_SIGNING_REQUESTS, NODES)
    writes = (
        "certificatesigningrequests",
        "certificatesigningrequests/approval",
        "certificatesigningrequests/status",
        "machineidentities",
    )

    _tools: Tools
    _requests: Informer
    _nodes: Informer

    def __init__(self, sign: Sign) -> None:
        self._sign = sign

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._requests, self._nodes = map(tools.caches.get, self.reads)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A request's own key."""
        return [key_of(obj)] if resource == CERTIFICATE_SIGNING_REQUESTS else []

    async def reconcile(self, key: Key) -> Result:
        """One step: the answer, the certificate, or the end."""
        request = self._requests.get(key)
        if request is None:
            return Done()
        client, now = self._tools.client, self._tools.clock.now()
        answer = judge(request, Machines(self._exists, self._addresses_of_others))
        if answer is not None:
            await client.update(CERTIFICATE_SIGNING_REQUESTS, self._answered(request, answer), "approval")
            return Done()
        if to_sign(request):
            signed = self._signed(request)
            if signed["status"].get("certificate"):
                await self._install(request)
            await client.update(CERTIFICATE_SIGNING_REQUESTS, signed, "status")
            return Done()
        left = forget_in(request, now)
        if left > 0:
            return Requeue(left)
        await client.delete(CERTIFICATE_SIGNING_REQUESTS, key.name, uid=request["metadata"]["uid"])
        return Done()

    def _answered(self, request: Obj, answer: Grant | Deny) -> Obj:
        made, now = deepcopy(request), self._tools.clock.now()
        if isinstance(answer, Grant):
            words = "it is what an agent of this cell asks for"
            conditions.set_condition(made, "Approved", "True", now=now, reason="AutoApproved", message=words)
        else:
            conditions.set_condition(made, "Denied", "True", now=now, reason="AutoDenied", message=answer.message)
        return made

    def _signed(self, request: Obj) -> Obj:
        made, spec = deepcopy(request), request["spec"]
        try:
            read(spec)
            asked, client = base64.b64decode(spec["request"]), spec["signerName"] == CLIENT
            pem = self._sign(asked, client, spec.get("expirationSeconds"), uid_for(request) if client else "")
        except ValueError as error:
            now = self._tools.clock.now()
            conditions.set_condition(made, "Failed", "True", now=now, reason="SigningFailed", message=str(error))
        else:
            made["status"]["certificate"] = base64.b64encode(pem).decode()
        return made

    async def _install(self, request: Obj) -> None:
        """Whoever joins is the machine of that name from now on; certificates of a former one do not count any more."""
        if request["spec"]["signerName"] != CLIENT or is_own(request):
            return
        name, _ = read(request["spec"])
        wanted = machineidentities.new(name, uid_for(request))
        client = self._tools.client
        try:
            await client.create(MACHINE_IDENTITIES, wanted)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
            await client.patch(MACHINE_IDENTITIES, name, {"spec": wanted["spec"]})

    def _exists(self, name: str) -> bool:
        return self._nodes.get(Key("", name)) is not None

    def _addresses_of_others(self, name: str) -> frozenset[str]:
        return frozenset(
            address["address"]
            for node in self._nodes.items()
            if node["metadata"]["name"] != name
            for address in (node.get("status") or {}).get("addresses") or ()
            if address["type"] != "Hostname"
        )
