"""`pod.status` as the kubelet would write it: phase, conditions and container statuses. Pure.

The status is always computed as a whole; what other writers own (foreign conditions, fields the agent does not know) is
carried over from the last one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from corral.agent.podstate.model import Failure, Observed
from corral.agent.podstate.view import Past, View, container_url, is_started
from corral.agent.runtime.api import ContainerState
from corral.base.clock import rfc3339
from corral.kinds.podspec import qos_class
from corral.kinds.types import Obj

CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
"""The conditions that the agent owns, in the kubelet's order."""

_FIELDS = {
    "init": "initContainerStatuses",
    "sidecar": "initContainerStatuses",
    "main": "containerStatuses",
    "ephemeral": "ephemeralContainerStatuses",
}


def render(
    pod: Obj,
    seen: Observed,
    found: Sequence[View],
    previous: Obj,
    now: datetime,
    host_addresses: Sequence[str],
    *,
    phase: str,
    reason: str,
    message: str,
    ending: bool,
    removing: bool,
) -> Obj:
    """The complete status. `phase` forces one; `ending` says that nothing is started any more."""
    statuses = [(view, _container_status(view, seen, found, now, ending=ending)) for view in found]
    status = _carried(pod, previous)
    status["phase"] = _forward(previous, phase or _phase(found, ending=ending))
    for field, text in (("reason", reason), ("message", message)):
        if text:
            status[field] = text
        else:
            status.pop(field, None)
    if pod["metadata"].get("generation"):
        status["observedGeneration"] = pod["metadata"]["generation"]
    _addresses(status, pod, seen, host_addresses)
    status["startTime"] = previous.get("startTime") or (pod.get("status") or {}).get("startTime") or rfc3339(now)
    status["qosClass"] = previous.get("qosClass") or (pod.get("status") or {}).get("qosClass") or qos_class(pod)
    for field in dict.fromkeys(_FIELDS.values()):
        shown = [rendered for view, rendered in statuses if _FIELDS[view.role] == field]
        if shown:
            status[field] = shown
        else:
            status.pop(field, None)
    status["conditions"] = _conditions(pod, seen, statuses, status["phase"], previous, now, removing=removing)
    return status


def _carried(pod: Obj, previous: Obj) -> Obj:
    """What others wrote; the newest of theirs is in the pod, ours is in `previous`."""
    status = dict(pod.get("status") or {})
    status.update(previous)
    return status


def _forward(previous: Obj, phase: str) -> str:
    """A phase never goes back: terminal ones stay, Running never becomes Pending."""
    old = previous.get("phase") or "Pending"
    if old in ("Succeeded", "Failed"):
        return str(old)
    return "Running" if old == "Running" and phase == "Pending" else phase


def _phase(found: Sequence[View], *, ending: bool) -> str:
    mains = [view for view in found if view.role == "main"]
    if any(view.running for view in mains):
        waiting = any(not view.running and view.past is None for view in mains)
        return "Pending" if waiting and not ending else "Running"
    if not mains or any(view.past is None for view in mains):
        return "Pending"
    return "Running"


def _addresses(status: Obj, pod: Obj, seen: Observed, host_addresses: Sequence[str]) -> None:
    if host_addresses:
        status["hostIP"] = host_addresses[0]
        status["hostIPs"] = [{"ip": address} for address in host_addresses]
    addresses: Sequence[str] = seen.sandbox.addresses if seen.sandbox else ()
    if seen.sandbox and pod["spec"].get("hostNetwork"):
        addresses = host_addresses
    if addresses:
        status["podIP"] = addresses[0]
        status["podIPs"] = [{"ip": address} for address in addresses]


# Container statuses.


def _container_status(view: View, seen: Observed, found: Sequence[View], now: datetime, *, ending: bool) -> Obj:
    state, last = _state(view, seen, found, now, ending=ending)
    terminated = state.get("terminated")
    shown = view.live if view.live and view.live.state is ContainerState.RUNNING else None
    image_id = shown.image_id if shown else _ended_image(view, seen)
    status: Obj = {
        "name": view.name,
        "state": state,
        "lastState": last,
        "ready": _ready(view, seen, terminated),
        "restartCount": max(view.attempts, 0),
        "image": view.spec.get("image", ""),
        "imageID": image_id,
        "started": is_started(view, seen),
    }
    container_id = shown.id if shown else (view.past.container_id if view.past else "")
    if container_id:
        status["containerID"] = container_url(container_id)
    return status


def _ended_image(view: View, seen: Observed) -> str:
    for container in seen.containers:
        if view.past is not None and container.id == view.past.container_id:
            return container.image_id
    return str(view.old.get("imageID") or "")


def _state(view: View, seen: Observed, found: Sequence[View], now: datetime, *, ending: bool) -> tuple[Obj, Obj]:
    """`state` and `lastState`."""
    live, past = view.live, view.past
    if live is not None and live.state is ContainerState.RUNNING:
        return {"running": {"startedAt": rfc3339(live.started or live.created)}}, _last(past)
    if past is not None and (ending or not view.wants_restart()):
        return {"terminated": past.terminated()}, _last(view.earlier)
    waiting = _waiting(view, seen, found, now, ending=ending)
    if past is not None and waiting is None:
        return {"terminated": past.terminated()}, _last(view.earlier)
    return {"waiting": waiting or {"reason": "ContainerCreating"}}, _last(past)


def _last(past: Past | None) -> Obj:
    return {"terminated": past.terminated()} if past else {}


def _waiting(view: View, seen: Observed, found: Sequence[View], now: datetime, *, ending: bool) -> Obj | None:
    """Why a container does not run. None: it ended and is about to run again."""
    if not ending:
        due = view.due()
        if due is not None and now < due:
            return _crash_loop(view)
        failure = seen.start_failures.get(view.name)
        if failure is not None:
            return {"reason": failure.reason, "message": failure.message}
        image = seen.images.get(view.name)
        if image is not None and image.failure is not None:
            return _image_wait(view, image.failure, now)
        if view.past is not None and seen.sandbox is not None and seen.sandbox.ready:
            return None
    return {"reason": _idle_reason(view, found), **_blocked(seen)}


def _idle_reason(view: View, found: Sequence[View]) -> str:
    """`PodInitializing` while init containers come first, else `ContainerCreating`."""
    if view.role == "main" or view.role == "ephemeral":
        return "PodInitializing" if any(other.role in ("init", "sidecar") for other in found) else "ContainerCreating"
    first = next(other for other in found if other.role in ("init", "sidecar"))
    return "ContainerCreating" if first is view else "PodInitializing"


def _blocked(seen: Observed) -> Obj:
    for failure in (seen.volumes.failure, seen.sandbox_failure):
        if failure is not None:
            return {"message": failure.message}
    return {}


def _crash_loop(view: View) -> Obj:
    where = f"restarting failed container={view.name}"
    return {"reason": "CrashLoopBackOff", "message": f"back-off {_duration(view.delay())} {where}"}


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _image_wait(view: View, failure: Failure, now: datetime) -> Obj:
    if failure.reason == "ErrImagePull" and (now - failure.at).total_seconds() >= 1:
        image = view.spec.get("image", "")
        return {
            "reason": "ImagePullBackOff",
            "message": f'Back-off pulling image "{image}": ErrImagePull: {failure.message}',
        }
    return {"reason": failure.reason, "message": failure.message}


def _ready(view: View, seen: Observed, terminated: Mapping[str, Any] | None) -> bool:
    if view.role == "init":
        return terminated is not None and terminated.get("exitCode") == 0
    if view.role == "ephemeral" or view.live is None or not is_started(view, seen):
        return False
    if view.live.id in seen.killing:
        return False
    probe = seen.probes.get(view.live.id)
    return probe.ready if probe is not None else not view.spec.get("readinessProbe")


# Conditions.


def _conditions(
    pod: Obj,
    seen: Observed,
    statuses: Sequence[tuple[View, Obj]],
    phase: str,
    previous: Obj,
    now: datetime,
    *,
    removing: bool,
) -> list[Obj]:
    own = {
        "PodReadyToStartContainers": _flag(
            seen.sandbox is not None and seen.sandbox.ready and phase not in ("Succeeded", "Failed")
        ),
        "Initialized": _initialized(statuses, phase),
        "ContainersReady": (containers := _containers_ready(statuses, phase)),
        "Ready": _pod_ready(pod, containers, removing=removing),
        "PodScheduled": _flag(True),
    }
    live = (pod.get("status") or {}).get("conditions") or ()
    before = {condition["type"]: condition for condition in (*live, *(previous.get("conditions") or ()))}
    foreign = {condition["type"]: condition for condition in live if condition["type"] not in own}
    if seen.rejected is not None and seen.rejected.disrupted:
        message = seen.rejected.message
        own["DisruptionTarget"] = {"status": "True", "reason": "TerminationByKubelet", "message": message}
        foreign.pop("DisruptionTarget", None)
    conditions = [_stamped(type_, own[type_], before.get(type_), pod, now) for type_ in own]
    return conditions + list(foreign.values())


def _flag(value: bool) -> Obj:
    return {"status": "True" if value else "False"}


def _stamped(type_: str, wanted: Obj, old: Obj | None, pod: Obj, now: datetime) -> Obj:
    changed = old is None or old.get("status") != wanted["status"]
    condition: Obj = {"type": type_}
    if pod["metadata"].get("generation"):
        condition["observedGeneration"] = pod["metadata"]["generation"]
    condition["status"] = wanted["status"]
    condition["lastProbeTime"] = None
    condition["lastTransitionTime"] = rfc3339(now) if changed or old is None else old.get("lastTransitionTime")
    for field in ("reason", "message"):
        if wanted.get(field):
            condition[field] = wanted[field]
    return condition


def _ended_condition(phase: str) -> Obj | None:
    if phase == "Succeeded":
        return {"status": "False", "reason": "PodCompleted"}
    if phase == "Failed":
        return {"status": "False", "reason": "PodFailed"}
    return None


def _initialized(statuses: Sequence[tuple[View, Obj]], phase: str) -> Obj:
    pending = []
    began = any(view.role == "main" and (view.live or view.past) for view, _ in statuses)
    for view, status in statuses:
        if view.role == "init" and not status["ready"] and not began:
            pending.append(view.name)
        if view.role == "sidecar" and not status["started"] and not began:
            pending.append(view.name)
    if phase == "Succeeded":
        return {"status": "True", "reason": "PodCompleted"}
    if pending:
        said = f"containers with incomplete status: [{' '.join(pending)}]"
        return {"status": "False", "reason": "ContainersNotInitialized", "message": said}
    return _flag(True)


def _containers_ready(statuses: Sequence[tuple[View, Obj]], phase: str) -> Obj:
    ended = _ended_condition(phase)
    if ended is not None:
        return ended
    unready = [view.name for view, status in statuses if view.role in ("main", "sidecar") and not status["ready"]]
    if unready:
        said = f"containers with unready status: [{' '.join(unready)}]"
        return {"status": "False", "reason": "ContainersNotReady", "message": said}
    return _flag(True)


def _pod_ready(pod: Obj, containers: Obj, *, removing: bool) -> Obj:
    if containers["status"] != "True":
        return containers
    have = {condition["type"]: condition for condition in (pod.get("status") or {}).get("conditions") or ()}
    for gate in pod["spec"].get("readinessGates") or ():
        type_ = gate["conditionType"]
        if type_ not in have:
            said = f'corresponding condition of pod readiness gate "{type_}" does not exist.'
        elif have[type_].get("status") != "True":
            said = f'the status of pod readiness gate "{type_}" is not "True", but {have[type_].get("status")}'
        else:
            continue
        return {"status": "False", "reason": "ReadinessGatesNotReady", "message": said}
    return _flag(True)
