"""Service account tokens: JWTs in the form of Kubernetes' bound service account tokens, signed with ES256.

A token is good while its signature, issuer, audience and times are, and while the service account (and the pod, secret
or node it is bound to) is the very object it was made for. A verified token is remembered; what is checked again at
every use is cheap: the time, and that those objects still stand in the store since the same creation.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from corral.apiserver.auth.api import User
from corral.apiserver.auth.certificates import key_pem
from corral.apiserver.auth.lookup import Lookup, core_key, decode
from corral.base.clock import Clock
from corral.base.ids import new_uid
from corral.kinds.status import Cause, conflict, invalid, not_found, unauthorized
from corral.kinds.types import Obj

DEFAULT_ISSUER = "https://kubernetes.default.svc.cluster.local"
JWKS_PATH = "/openid/v1/jwks"
_ALGORITHM = "ES256"
_PRIVATE = "kubernetes.io"
_BINDABLE = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}
# TokenRequest's own limits (pkg/apis/authentication/validation).
_SHORTEST = 600
_LONGEST = 1 << 32
# Our largest token is about 1.5 KiB; whatever is far longer is not one.
_LONGEST_TEXT = 16_384
_REMEMBERED = 8_192


@dataclass(frozen=True, slots=True)
class Verified:
    """A token that holds, for the audiences that it shares with the question."""

    user: User
    audiences: tuple[str, ...]
    expires: float
    """Seconds since the epoch."""
    needs: tuple[tuple[str, int], ...]
    """Store keys and the revisions of their creation: the token falls when one of them does."""


class TokenIssuer:
    """Makes and verifies the tokens of one cell. `audiences` are those of the API server itself."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        lookup: Lookup,
        clock: Clock,
        *,
        issuer: str = DEFAULT_ISSUER,
        audiences: Sequence[str] = (),
    ) -> None:
        self.issuer = issuer
        self.audiences = tuple(audiences) or (issuer,)
        self._key = ECKey.import_key(key_pem(key).decode("ascii"))
        self._kid = self._key.thumbprint()
        self.lookup = lookup
        self._clock = clock
        self._seed = secrets.token_bytes(32)
        self._remembered: dict[tuple[bytes, tuple[str, ...]], Verified] = {}

    def issue(
        self, namespace: str, name: str, uid: str, *, audiences: Sequence[str], seconds: int, bound: Obj | None
    ) -> tuple[str, datetime]:
        """A token of the service account for `seconds`, and when it ends.

        `bound` is a BoundObjectReference (kind, name, uid) to a Pod, Secret or Node, or that object itself. Without
        audiences the token is for the API server.

        Raises:
            StatusError: 404 or 409 if the account or the bound object is not there with that uid; 422 if `seconds` or
                the bound kind is out of the question.
        """
        self._check_request(seconds, bound)
        self._require("serviceaccounts", namespace, name, uid)
        now = self._clock.now().replace(microsecond=0)
        expires = now + timedelta(seconds=seconds)
        private: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}
        private |= self._bound_claims(namespace, name, bound)
        claims = {
            "aud": list(audiences) or list(self.audiences),
            "exp": int(expires.timestamp()),
            "iat": int(now.timestamp()),
            "iss": self.issuer,
            "jti": new_uid(),
            _PRIVATE: private,
            "nbf": int(now.timestamp()),
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        token = jwt.encode({"alg": _ALGORITHM, "kid": self._kid}, claims, self._key, algorithms=[_ALGORITHM])
        return token, expires

    def verify(self, token: str, audiences: Sequence[str] = ()) -> Verified:
        """Whose token it is. `audiences` are those that may be meant; without, the API server's own.

        Raises:
            StatusError: 401, without saying what is wrong with it.
        """
        asked = tuple(audiences) or self.audiences
        # A keyed digest, so that neither memory nor timing of the lookup tells anything about tokens that hold.
        digest = hashlib.blake2b(token.encode("utf-8", "replace"), key=self._seed, digest_size=32).digest()
        found = self._remembered.get((digest, asked))
        now = self._clock.now().timestamp()
        if found is None:
            found = self._verify(token, asked, now)
            self._remember((digest, asked), found)
        elif now >= found.expires or not self._stand(found.needs):
            del self._remembered[(digest, asked)]
            raise unauthorized()
        return found

    def openid_configuration(self, jwks_uri: str) -> Obj:
        """`/.well-known/openid-configuration`; `jwks_uri` is the full URL of `JWKS_PATH`."""
        return {
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [_ALGORITHM],
        }

    def jwks(self) -> Obj:
        """`/openid/v1/jwks`: the public key, for others who verify our tokens."""
        public = self._key.as_dict(private=False)
        return {"keys": [{**public, "use": "sig", "kid": self._kid, "alg": _ALGORITHM}]}

    def _check_request(self, seconds: int, bound: Obj | None) -> None:
        causes = []
        if not _SHORTEST <= seconds <= _LONGEST:
            limit = "less than 10 minutes" if seconds < _SHORTEST else "larger than 2^32 seconds"
            message = f"Invalid value: {seconds}: may not specify a duration {limit}"
            causes.append(Cause("FieldValueInvalid", message, "spec.expirationSeconds"))
        if bound is not None and bound.get("kind") not in _BINDABLE:
            message = f"Unsupported value: {bound.get('kind')!r}: supported values: {', '.join(sorted(_BINDABLE))}"
            causes.append(Cause("FieldValueNotSupported", message, "spec.boundObjectRef.kind"))
        if causes:
            raise invalid("authentication.k8s.io", "TokenRequest", "", causes)

    def _bound_claims(self, namespace: str, account: str, bound: Obj | None) -> dict[str, Any]:
        if bound is None:
            return {}
        kind = bound["kind"]
        plural = _BINDABLE[kind]
        identity = bound.get("metadata") or bound
        name, uid = identity.get("name", ""), identity.get("uid", "")
        obj = self._require(plural, "" if kind == "Node" else namespace, name, uid)
        claims: dict[str, Any] = {kind.lower(): _reference(obj)}
        if kind == "Pod":
            spec = obj.get("spec") or {}
            if (spec.get("serviceAccountName") or "default") != account:
                raise conflict("", plural, name, f"the pod does not run as service account {account!r}")
            node = self.lookup.get(core_key("nodes", "", spec["nodeName"])) if spec.get("nodeName") else None
            if node is not None:
                claims["node"] = _reference(decode(node))
        return claims

    def _require(self, plural: str, namespace: str, name: str, uid: str) -> Obj:
        entry = self.lookup.get(core_key(plural, namespace, name))
        if entry is None:
            raise not_found("", plural, name)
        obj = decode(entry)
        found = obj["metadata"].get("uid", "")
        if uid and uid != found:
            why = f"the UID in the bound object reference ({uid}) does not match the UID in record ({found})"
            raise conflict("", plural, name, why)
        return obj

    def _verify(self, token: str, asked: tuple[str, ...], now: float) -> Verified:
        if len(token) > _LONGEST_TEXT or token.count(".") != 2:
            raise unauthorized()
        try:
            claims = jwt.decode(token, self._key, algorithms=[_ALGORITHM]).claims
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise unauthorized() from error
        audiences = claims.get("aud")
        audiences = [audiences] if isinstance(audiences, str) else audiences
        shared = tuple(a for a in asked if a in audiences) if isinstance(audiences, list) else ()
        expires = _number(claims.get("exp"), 0.0)
        not_before = _number(claims.get("nbf"), float("inf"))
        if claims.get("iss") != self.issuer or not shared or not not_before <= now < expires:
            raise unauthorized()
        return self._verified(claims, shared, expires)

    def _verified(self, claims: Mapping[str, Any], audiences: tuple[str, ...], expires: float) -> Verified:
        private = _mapping(claims.get(_PRIVATE))
        namespace, account = private.get("namespace"), _mapping(private.get("serviceaccount"))
        name, uid = account.get("name"), account.get("uid")
        user_name = f"system:serviceaccount:{namespace}:{name}"
        if not namespace or not name or not uid or claims.get("sub") != user_name:
            raise unauthorized()
        needs = [self._stands("serviceaccounts", namespace, account)]
        for field, plural in (("pod", "pods"), ("secret", "secrets")):
            if field in private:
                needs.append(self._stands(plural, namespace, _mapping(private[field])))
        node = _mapping(private.get("node"))
        # With a pod, the node is only told; on its own, the token is bound to it.
        if node and "pod" not in private:
            needs.append(self._stands("nodes", "", node))
        user = User(user_name, _groups(namespace), str(uid), _extra(claims, _mapping(private.get("pod")), node))
        return Verified(user, audiences, expires, tuple(needs))

    def _stands(self, plural: str, namespace: str, reference: Mapping[str, Any]) -> tuple[str, int]:
        key = core_key(plural, namespace, str(reference.get("name")))
        entry = self.lookup.get(key)
        if entry is None or decode(entry)["metadata"].get("uid") != reference.get("uid"):
            raise unauthorized()
        return key, entry.created

    def _stand(self, needs: tuple[tuple[str, int], ...]) -> bool:
        for key, created in needs:
            entry = self.lookup.get(key)
            if entry is None or entry.created != created:
                return False
        return True

    def _remember(self, key: tuple[bytes, tuple[str, ...]], verified: Verified) -> None:
        if len(self._remembered) >= _REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[key] = verified


def _groups(namespace: str) -> tuple[str, ...]:
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")


def _extra(claims: Mapping[str, Any], pod: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    extra: dict[str, Sequence[str]] = {"authentication.kubernetes.io/credential-id": [f"JTI={claims.get('jti', '')}"]}
    for kind, reference in (("pod", pod), ("node", node)):
        if reference:
            extra[f"authentication.kubernetes.io/{kind}-name"] = [str(reference.get("name"))]
            extra[f"authentication.kubernetes.io/{kind}-uid"] = [str(reference.get("uid"))]
    return extra


def _reference(obj: Obj) -> dict[str, str]:
    return {"name": obj["metadata"]["name"], "uid": obj["metadata"].get("uid", "")}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
