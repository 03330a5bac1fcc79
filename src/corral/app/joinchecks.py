"""Can this machine join that cell? Each question that can be asked before anything is changed, with a remedy.

The cell is asked without verifying anything until its authority has the hash that the person was given; from then on
verified, and with the token. What the answer to one question needs is asked before; all else is asked in any case, so
that a person sees all that is wrong at once.
"""

import asyncio
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from cryptography import x509

from corral.apiserver.auth import certificates
from corral.apiserver.auth.pki import client_context
from corral.base.checks import Check
from corral.base.clock import Clock
from corral.base.errors import CorralError
from corral.client.client import Client
from corral.client.http import HttpTransport
from corral.kinds.bootstraptokens import BOOTSTRAPPERS
from corral.kinds.resources import NODES, SELF_SUBJECT_REVIEWS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.kinds.validation import dns_subdomain
from corral.wire.sockets import guarded

INFO_PATH: Final = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
MOST_SKEW: Final = 60.0
"""Seconds. Certificates are good from five minutes before they are made."""
_PIN: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NEW_LINE: Final = "make a new line on the server: corral token create"
_ANSWER_SECONDS: Final = 10.0


@dataclass(slots=True)
class Findings:
    """What the questions gave."""

    checks: list[Check] = field(default_factory=list)
    authority: bytes = b""
    """The cell's authority (PEM); to be trusted only if nothing was wrong."""

    def refusal(self, what: str) -> CorralError | None:
        """The error that names all that is wrong; None if nothing is."""
        return refusal(what, self.checks)


def refusal(what: str, checks: Sequence[Check]) -> CorralError | None:
    """The error that names what is needed and missing; None if nothing is. It begins with `what`."""
    wrong = [check for check in checks if not check.ok and check.level == "needed"]
    if not wrong:
        return None
    if len(wrong) == 1:
        return CorralError(f"{what}: {wrong[0].name}: {wrong[0].detail}", wrong[0].remedy)
    said = "; ".join(f"{check.name}: {check.detail}" for check in wrong)
    return CorralError(f"{what}: {said}", "; ".join(f"{check.name}: {check.remedy}" for check in wrong))


@dataclass(frozen=True, slots=True)
class _Introduction:
    """What a server says of itself, not verified."""

    authority: bytes
    """PEM."""
    fingerprint: str
    """The authority's."""
    date: str
    hosts: frozenset[str]
    """The names and addresses in the server's certificate."""


async def examine(server: str, name: str, pin: str, token: str, clock: Clock) -> Findings:
    """Ask the cell of `server` whether a machine called `name` may join with this hash and token."""
    findings = Findings([machine_name(name)])
    try:
        introduction = await _introduction(server)
    except CorralError as error:
        findings.checks.append(Check("server", False, error.message, error.remedy or ""))
        return findings
    named = _certificate(server, introduction.hosts)
    trusted = authority_is(introduction.fingerprint, pin, server)
    findings.checks += [Check("server", True, server), clocks(introduction.date, clock.now()), trusted, named]
    if trusted.ok and named.ok:
        findings.authority = introduction.authority
        findings.checks += await _with_token(server, client_context(introduction.authority), name, token)
    return findings


async def _introduction(server: str) -> _Introduction:
    """Raises:
    CorralError: the server cannot be reached, or is no server of a cell.
    """
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    connector = aiohttp.TCPConnector(socket_factory=guarded)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
            session.get(server + INFO_PATH, ssl=False) as response,
        ):
            date = response.headers.get("Date", "")
            info = await response.json(content_type=None)
            authority = str(info["data"]["ca.crt"]).encode()
            fingerprint = certificates.fingerprint(x509.load_pem_x509_certificate(authority))
        shown = x509.load_pem_x509_certificate(await asyncio.to_thread(_shown, server))
        return _Introduction(authority, fingerprint, date, certificates.hosts_of(shown))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise CorralError(
            f"cannot reach {server}: {error or 'no answer'}",
            "check the address, that `corral up` runs there, and that no firewall is in between",
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise CorralError(f"{server} is no server of a cell", "check the address and the port") from error


def _shown(server: str) -> bytes:
    """The certificate (PEM) that the server shows."""
    parts = urlsplit(server)
    return ssl.get_server_certificate((parts.hostname or "", parts.port or 443), timeout=_ANSWER_SECONDS).encode()


def _certificate(server: str, hosts: frozenset[str]) -> Check:
    host = urlsplit(server).hostname or ""
    remedy = f"join by one of {', '.join(sorted(hosts))}; or let the server answer to that one, too (corral up --bind)"
    good = host in hosts
    return Check("certificate", good, f"the server's is {'' if good else 'not '}for {host}", remedy)


def machine_name(name: str) -> Check:
    """Whether the API takes a Node of this name."""
    problems = dns_subdomain(name)
    return Check("name", not problems, f"{name}: {problems[0]}" if problems else name, "choose another with --name")


def authority_is(found: str, pin: str, server: str) -> Check:
    """Whether the cell is the one that was meant."""
    if not _PIN.fullmatch(pin):
        return Check("CA hash", False, f"--ca-hash must be sha256: and 64 digits, it is {pin!r}", _NEW_LINE)
    if found == pin:
        return Check("CA hash", True, found[:23] + "...")
    remedy = f"{_NEW_LINE}; if it stays another, somebody is in between"
    return Check("CA hash", False, f"the hash of the authority of {server} is {found}, not {pin}", remedy)


def clocks(date: str, now: datetime) -> Check:
    """Whether this machine's clock and the server's, by the Date of its answer, agree."""
    try:
        skew = abs((parsedate_to_datetime(date) - now).total_seconds())
    except (TypeError, ValueError):
        return Check("clock", True, "the server does not say its time")
    remedy = "set the clock, for example with `systemctl enable --now systemd-timesyncd` or chrony"
    return Check("clock", skew <= MOST_SKEW, f"{skew:.0f} s apart from the server's", remedy)


async def _with_token(server: str, trust: ssl.SSLContext, name: str, token: str) -> list[Check]:
    transport = HttpTransport(server, trust, token, connect_seconds=_ANSWER_SECONDS)
    client = Client(transport)
    try:
        checks = [await _token(client)]
        if checks[0].ok:
            checks.append(await _name_is_free(client, name))
        return checks
    except OSError as error:
        return [Check("server", False, f"it cannot be talked to: {error}", "see that it is one server, and try again")]
    finally:
        await transport.close()


async def _token(client: Client) -> Check:
    review: Obj = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {}}
    try:
        answer = await client.create(SELF_SUBJECT_REVIEWS, review)
    except StatusError as error:
        said = error.message.removeprefix("Unauthorized").lstrip(": ")
        return Check("token", False, said or "it is unknown: it was deleted, or is another cell's", _NEW_LINE)
    user = answer["status"]["userInfo"]
    if BOOTSTRAPPERS not in user.get("groups", ()):
        return Check("token", False, f"it is that of {user['username']}, not one to join with", _NEW_LINE)
    return Check("token", True, str(user["username"]).rpartition(":")[2])


async def _name_is_free(client: Client, name: str) -> Check:
    try:
        await client.get(NODES, name)
    except StatusError as error:
        # A cell that tells nothing decides when it is asked for the certificate.
        return Check("free name", error.code in (403, 404), f"no machine is called {name}", error.message)
    remedy = f"choose another with --name; or, if that one is gone for good: corral machine remove {name}"
    return Check("free name", False, f"the cell has a machine called {name}", remedy)
