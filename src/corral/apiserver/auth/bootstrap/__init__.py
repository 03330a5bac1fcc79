"""What every cell begins with: Kubernetes' default roles and bindings, namespaces and priority classes.

The rules follow Kubernetes' plugin/pkg/auth/authorizer/rbac/bootstrappolicy, reduced to what this cell serves, with
Corral's own resources (group corral.dev) added.
"""

from corral.apiserver.auth.bootstrap.basics import basics
from corral.apiserver.auth.bootstrap.cluster import cluster_objects
from corral.apiserver.auth.bootstrap.components import component_objects
from corral.apiserver.auth.bootstrap.controllers import controller_objects
from corral.apiserver.auth.bootstrap.workloads import workload_objects
from corral.kinds.types import Obj


def objects() -> list[Obj]:
    """The objects to create at start if they are missing, in an order in which each finds what it refers to."""
    return [*basics(), *cluster_objects(), *workload_objects(), *component_objects(), *controller_objects()]


__all__ = ["objects"]
