"""Certificate requests: who asks is written by the server, and only who may speak for a signer approves or signs."""

import base64

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from corral.apiserver.admission.api import Lookup, Operation, Review
from corral.apiserver.auth.api import Attributes, Authorizer
from corral.kinds.kind import Kind
from corral.kinds.resources import CERTIFICATE_SIGNING_REQUESTS
from corral.kinds.status import Cause, forbidden, invalid
from corral.kinds.types import Obj

_GROUP = "certificates.k8s.io"
_SHORTEST_SECONDS = 600


class CertificateRequests:
    """What kube-apiserver does in the strategy of CertificateSigningRequests and in its plugins CertificateApproval and
    CertificateSigning."""

    name = "CertificateRequests"

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        return kind.resource == CERTIFICATE_SIGNING_REQUESTS and operation in ("CREATE", "UPDATE")

    def mutate(self, review: Review, lookup: Lookup) -> None:
        if review.old is not None:
            # A request is for what it was for when it was made.
            review.obj["spec"] = review.old["spec"]
            return
        spec, user = review.obj.setdefault("spec", {}), review.user
        spec["username"], spec["groups"] = user.name, list(user.groups)
        for field, value in (("uid", user.uid), ("extra", {key: list(texts) for key, texts in user.extra.items()})):
            spec.pop(field, None)
            if value:
                spec[field] = value

    def validate(self, review: Review, lookup: Lookup) -> None:
        signer = str(review.obj["spec"].get("signerName") or "")
        if review.operation == "CREATE":
            _check_request(review.obj)
        elif review.subresource == "approval":
            self._check_may("approve", signer, review)
        elif review.subresource == "status" and _certificate(review.obj) != _certificate(review.old):
            self._check_may("sign", signer, review)

    def _check_may(self, verb: str, signer: str, review: Review) -> None:
        names = signer, f"{signer.partition('/')[0]}/*"
        if not any(self._allowed(verb, name, review) for name in names):
            why = f"user not permitted to {verb} requests with signerName {signer!r}"
            raise forbidden(_GROUP, "certificatesigningrequests", review.name, why)

    def _allowed(self, verb: str, name: str, review: Review) -> bool:
        return self._authorizer.authorize(review.user, Attributes(verb, _GROUP, "signers", name=name)).allowed


def _certificate(obj: Obj | None) -> object:
    return ((obj or {}).get("status") or {}).get("certificate")


def _check_request(obj: Obj) -> None:
    spec, causes = obj["spec"], []
    try:
        asked = x509.load_pem_x509_csr(base64.b64decode(spec.get("request") or "", validate=True))
        good = asked.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        good = False
    if not good:
        words = "must be a PEM certificate request signed by its own key"
        causes.append(Cause("FieldValueInvalid", words, "spec.request"))
    life = spec.get("expirationSeconds")
    if life is not None and life < _SHORTEST_SECONDS:
        words = f"may not specify a duration less than {_SHORTEST_SECONDS} seconds"
        causes.append(Cause("FieldValueInvalid", f"Invalid value: {life}: {words}", "spec.expirationSeconds"))
    if causes:
        raise invalid(_GROUP, "CertificateSigningRequest", obj["metadata"].get("name", ""), causes)
