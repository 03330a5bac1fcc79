"""Who asks: client certificates of our authority, service account tokens, and bootstrap tokens."""

from cryptography import x509
from cryptography.x509.oid import NameOID

from corral.apiserver.auth import bootstrap_tokens
from corral.apiserver.auth.api import User
from corral.apiserver.auth.tokens import TokenIssuer
from corral.base.clock import Clock
from corral.kinds.status import unauthorized

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
        return user


def _read(der: bytes) -> tuple[User, float, float]:
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        organizations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    except ValueError as error:
        raise unauthorized() from error
    if len(names) != 1 or not names[0].value:
        raise unauthorized()
    groups = dict.fromkeys([str(o.value) for o in organizations if o.value])
    groups[AUTHENTICATED] = None
    user = User(str(names[0].value), tuple(groups))
    return user, certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
