"""The PodGroup of a Job that asks for one. Pure.

A Job asks by naming in its pod template a PodGroup that has the Job's own name (`schedulingGroup.podGroupName`): then
its pods are placed together or not at all. The group is made when the Job starts, unless somebody else has made it, and
goes away with the Job. Kubernetes 1.36 makes one for every Indexed Job whose completions equal its parallelism, where
the feature gate WorkloadWithJob is on; without being asked, Jobs that run well in small steps would never start.
"""

from corral.controllers.jobs.finishing import is_finished
from corral.controllers.pods.pods import is_deleting
from corral.kinds.owners import controller_reference
from corral.kinds.podgroups import group_of_job, native_group
from corral.kinds.types import Obj


def own_group(job: Obj) -> Obj | None:
    """The PodGroup that the Job asks for, if it does and runs."""
    found = group_of_job(job)
    if found is None or job["spec"].get("suspend") or is_finished(job) or is_deleting(job):
        return None
    group = native_group(*found)
    group["metadata"]["ownerReferences"] = [controller_reference(job)]
    return group
