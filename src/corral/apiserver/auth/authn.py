"""Who asks: client certificates of our authority, service account tokens, and bootstrap tokens."""

from cryptography import x509
from cryptography.x509.oid import NameOID

from corral.apiserver.auth import bootstrap_tokens
from corral.apiserver.auth.api import User
from corral.apiserver.auth.certificates import UID
from corral.apiserver.auth.lookup import decode
from corral.apiserver.auth.node import node_name
from corral.apiserver.auth.tokens import TokenIssuer
from corral.base.clock import Clock
from corral.kinds import machineidentities
from corral.kinds.resources import MACHINE_IDENTITIES
from corral.kinds.status import Cause, StatusError, unauthorized

AUTHENTICATED = "system:authenticated"
_REMEMBERED = 4_096


class CellAuthenticator:
    """`corral.apiserver.auth.api.Authenticator` of a cell."""

    def __init__(self, tokens: TokenIssuer, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock
        self._certificates: dict[bytes, tuple[User, float, float]] = {}

    def token(self, token: str) -> User:
        """The service account, or the machine to be, that a token for this API server belongs to.

        Raises:
            StatusError: 401.
        """
        if bootstrap_tokens.is_one(token):
            return bootstrap_tokens.verify(token, self._tokens.lookup, self._clock)
        return self._tokens.verify(token).user

    def certificate(self, der: bytes) -> User:
        """The holder of a certificate that TLS has verified: CN is the name, each O a group.

        The times are checked at each call, because a connection may outlive its certificate.

        Raises:
            StatusError: 401.
        """
        found = self._certificates.get(der)
        if found is None:
            found = _read(der)
            if len(self._certificates) >= _REMEMBERED:
                self._certificates.clear()
            self._certificates[der] = found
        user, begin, end = found
        if not begin <= self._clock.now().timestamp() <= end:
            raise unauthorized()
        machine = node_name(user)
        if machine:
            self._check_machine(machine, user)
        return user

    def _check_machine(self, machine: str, user: User) -> None:
        """Raises:
        StatusError: 401, the machine was removed, or another one has joined under its name.
        """
        entry = self._tokens.lookup.get(f"/{MACHINE_IDENTITIES.group}/{MACHINE_IDENTITIES.plural}/{machine}")
        if entry is not None and not machineidentities.counts(decode(entry), user.uid):
            words = f"the machine {machine} was removed from the cell, or another one has taken its place"
            cause = Cause(machineidentities.REMOVED, words)
            raise StatusError(401, "Unauthorized", f"Unauthorized: {words}", causes=[cause])


def _read(der: bytes) -> tuple[User, float, float]:
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        organizations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        uids = certificate.subject.get_attributes_for_oid(UID)
    except ValueError as error:
        raise unauthorized() from error
    if len(names) != 1 or not names[0].value or len(uids) > 1:
        raise unauthorized()
    groups = dict.fromkeys([str(o.value) for o in organizations if o.value])
    groups[AUTHENTICATED] = None
    user = User(str(names[0].value), tuple(groups), str(uids[0].value) if uids else "")
    return user, certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
