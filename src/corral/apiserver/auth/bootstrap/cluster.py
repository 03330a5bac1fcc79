"""Roles about the cluster itself: its administrator, discovery, health, and what everybody may ask about himself."""

from corral.apiserver.auth.bootstrap.build import (
    ALL,
    allow,
    allow_urls,
    binding,
    cluster_binding,
    cluster_role,
    group,
    role,
)
from corral.kinds.types import Obj

_AUTHENTICATED = "system:authenticated"
_ANYBODY = "system:unauthenticated"
_HEALTH = "/healthz /livez /readyz /version /version/"
_DISCOVERY = "/api /api/* /apis /apis/* /openapi /openapi/*"


def cluster_objects() -> list[Obj]:
    return [
        cluster_role("cluster-admin", [allow(ALL, ALL, ALL), allow_urls(ALL, "*")]),
        cluster_binding("cluster-admin", "cluster-admin", group("system:masters")),
        cluster_role("system:discovery", [allow_urls("get", f"{_HEALTH} {_DISCOVERY}")]),
        cluster_binding("system:discovery", "system:discovery", group(_AUTHENTICATED)),
        cluster_role(
            "system:basic-user",
            [
                allow("create", "selfsubjectaccessreviews selfsubjectrulesreviews", "authorization.k8s.io"),
                allow("create", "selfsubjectreviews", "authentication.k8s.io"),
            ],
        ),
        cluster_binding("system:basic-user", "system:basic-user", group(_AUTHENTICATED)),
        # Anonymous callers learn that the cell lives and its version, nothing else.
        cluster_role("system:public-info-viewer", [allow_urls("get", _HEALTH)]),
        cluster_binding(
            "system:public-info-viewer", "system:public-info-viewer", group(_AUTHENTICATED), group(_ANYBODY)
        ),
        role("kube-public", "corral:cluster-info", [allow("get", "configmaps", names="cluster-info")]),
        binding("kube-public", "corral:cluster-info", "corral:cluster-info", group(_ANYBODY), group(_AUTHENTICATED)),
        # Machines hear of servers that come and go.
        role("kube-public", "corral:servers", [allow("list watch", "configmaps", names="cluster-info")]),
        binding("kube-public", "corral:servers", "corral:servers", group("system:nodes")),
        cluster_role(
            "system:service-account-issuer-discovery",
            [allow_urls("get", "/.well-known/openid-configuration /openid/v1/jwks")],
        ),
        cluster_binding(
            "system:service-account-issuer-discovery",
            "system:service-account-issuer-discovery",
            group("system:serviceaccounts"),
        ),
        cluster_role(
            "system:monitoring",
            [allow_urls("get", "/metrics /metrics/slis /livez /readyz /healthz /livez/* /readyz/* /healthz/*")],
        ),
        cluster_binding("system:monitoring", "system:monitoring", group("system:monitoring")),
        cluster_role(
            "system:auth-delegator",
            [
                allow("create", "tokenreviews", "authentication.k8s.io"),
                allow("create", "subjectaccessreviews", "authorization.k8s.io"),
            ],
        ),
    ]
