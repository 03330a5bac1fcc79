"""The built-in controllers, under the names that Kubernetes gives them."""

import math
from collections.abc import Callable

from corral.controllers.certificates.controller import CertificateController, Sign
from corral.controllers.cronjobs.controller import CronJobController
from corral.controllers.daemonsets.controller import DaemonSetController
from corral.controllers.deployments.controller import DeploymentController
from corral.controllers.disruption.controller import DisruptionController
from corral.controllers.endpoints.controller import EndpointsController, EndpointSliceController
from corral.controllers.garbagecollector.controller import GarbageCollector
from corral.controllers.jobs.controller import JobController
from corral.controllers.jobs.expiry import TtlAfterFinishedController
from corral.controllers.namespaces.controller import NamespaceController
from corral.controllers.nodeipam.controller import NodeIpamController
from corral.controllers.nodelifecycle.controller import NodeLifecycleController
from corral.controllers.podgc.controller import PodGarbageCollector
from corral.controllers.podgroups.controller import PodGroupController
from corral.controllers.replicasets.controller import ReplicaSetController
from corral.controllers.serviceaccounts.controller import RootCaController, ServiceAccountController
from corral.controllers.statefulsets.controller import StatefulSetController
from corral.controllers.tainteviction.controller import TaintEvictionController
from corral.controllers.volumes.binder import PersistentVolumeBinder
from corral.controllers.volumes.ephemeral import EphemeralVolumeController
from corral.controllers.volumes.protection import ClaimProtection, VolumeProtection
from corral.controllers.volumes.provisioner import LocalProvisioner
from corral.kinds.health import DEFAULT, HealthProfile
from corral.kinds.resources import COSCHEDULING_POD_GROUPS, POD_GROUPS
from corral.machinery.api import Background, Controller


def controllers(
    *,
    ca_pem: str,
    sign: Sign,
    health: HealthProfile = DEFAULT,
    sole: bool = True,
    refused: Callable[[], float] = lambda: -math.inf,
) -> list[Controller | Background]:
    """A new set of built-in controllers, for one `Runner`.

    Args:
        ca_pem: the authority that pods verify the API server by.
        sign: makes machines' certificates.
        health: how soon a silent machine is given up.
        sole: whether no other server acts on the same store.
        refused: when the store last had no room for a write, in monotonic seconds.
    """
    return [
        NamespaceController(),
        ServiceAccountController(),
        RootCaController(ca_pem),
        CertificateController(sign),
        JobController(),
        TtlAfterFinishedController(),
        CronJobController(),
        ReplicaSetController(),
        DeploymentController(),
        DaemonSetController(),
        StatefulSetController(),
        EndpointsController(),
        EndpointSliceController(),
        PodGarbageCollector(),
        DisruptionController(),
        PodGroupController(POD_GROUPS),
        PodGroupController(COSCHEDULING_POD_GROUPS),
        NodeIpamController(),
        NodeLifecycleController(health, sole=sole, refused=refused),
        TaintEvictionController(),
        PersistentVolumeBinder(),
        ClaimProtection(),
        VolumeProtection(),
        EphemeralVolumeController(),
        LocalProvisioner(),
        GarbageCollector(),
    ]


def user_of(controller: str) -> str:
    """The user that a built-in controller acts as."""
    return f"system:serviceaccount:kube-system:{controller}"
