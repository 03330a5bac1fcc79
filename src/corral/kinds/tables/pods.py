"""The table of pods.

The Status column condenses phase, deletion, init containers and container states into one word, in the order of
precedence of kubernetes/pkg/printers/internalversion.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from corral.kinds import conditions, podspec
from corral.kinds.kind import Column
from corral.kinds.tables.durations import age, since
from corral.kinds.tables.printer import NAME, Printer, Printers, printer, spec, status, text
from corral.kinds.tables.texts import NONE, container_columns, labels_text
from corral.kinds.types import Obj

_COLUMNS: Final = (
    NAME[0],
    Column("Ready", description="Containers that are ready, of all containers."),
    Column("Status", description="What the pod is doing, or why it is not."),
    Column("Restarts", description="How often containers were restarted, and when last."),
    Column("Age", description="Time since the object was created."),
    Column("IP", priority=1),
    Column("Node", priority=1),
    Column("Nominated Node", priority=1),
    Column("Readiness Gates", priority=1),
)
_COMPLETED: Final = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}


@dataclass(slots=True)
class _Summary:
    """What the containers' states add up to."""

    reason: str
    ready: int = 0
    restarts: int = 0
    last_restart: str = ""

    def count(self, container: Obj) -> None:
        self.restarts += container.get("restartCount") or 0
        ended = (container.get("lastState") or {}).get("terminated") or {}
        # RFC 3339 times in UTC compare as texts.
        self.last_restart = max(self.last_restart, ended.get("finishedAt") or "")


def _ending(terminated: Obj) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _init_reason(container: Obj, index: int, total: int) -> str:
    """Why an init container is not done yet."""
    state = container.get("state") or {}
    if state.get("terminated") is not None:
        return f"Init:{_ending(state['terminated'])}"
    waiting = (state.get("waiting") or {}).get("reason")
    if waiting and waiting != "PodInitializing":
        return f"Init:{waiting}"
    return f"Init:{index}/{total}"


def _initialise(pod: Obj, summary: _Summary, sidecars: _Summary) -> bool:
    """Account for the init containers, sidecars also apart; returns whether one of them is still to be waited for."""
    declared = spec(pod).get("initContainers") or ()
    restartable = {container["name"] for container in declared if podspec.is_sidecar(container)}
    for index, container in enumerate(status(pod).get("initContainerStatuses") or ()):
        summary.count(container)
        is_sidecar = container.get("name") in restartable
        if is_sidecar:
            sidecars.count(container)
        terminated = (container.get("state") or {}).get("terminated")
        if terminated is not None and terminated.get("exitCode", 0) == 0:
            continue
        if is_sidecar and container.get("started"):
            sidecars.ready += bool(container.get("ready"))
            continue
        summary.reason = _init_reason(container, index, len(declared))
        return True
    return False


def _run(pod: Obj, summary: _Summary) -> None:
    """Account for the containers; the first one of the spec has the last word."""
    running, failure = False, ""
    for container in reversed(status(pod).get("containerStatuses") or ()):
        summary.count(container)
        state = container.get("state") or {}
        waiting, terminated = state.get("waiting"), state.get("terminated")
        if waiting is not None and waiting.get("reason"):
            summary.reason = waiting["reason"]
        elif terminated is not None:
            summary.reason = _ending(terminated)
            if terminated.get("exitCode", 0) != 0:
                failure = summary.reason
        elif container.get("ready") and state.get("running") is not None:
            running = True
            summary.ready += 1
    if summary.reason == "Completed":
        if running and podspec.is_ready(pod):
            summary.reason = "Running"
        elif failure:
            summary.reason = failure
        elif running:
            summary.reason = "NotReady"


def _summary(pod: Obj) -> _Summary:
    reason = status(pod).get("reason") or status(pod).get("phase") or ""
    scheduled = conditions.get(pod, "PodScheduled")
    if scheduled is not None and scheduled.get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    summary, sidecars = _Summary(reason), _Summary("")
    waiting = _initialise(pod, summary, sidecars)
    summary.ready = sidecars.ready
    if not waiting or conditions.is_true(pod, "Initialized"):
        summary.restarts, summary.last_restart = sidecars.restarts, sidecars.last_restart
        _run(pod, summary)
    if pod["metadata"].get("deletionTimestamp"):
        if status(pod).get("reason") == "NodeLost":
            summary.reason = "Unknown"
        elif not podspec.is_terminal(pod):
            summary.reason = "Terminating"
    return summary


def _gates(pod: Obj) -> str:
    gates = spec(pod).get("readinessGates") or ()
    passed = sum(conditions.is_true(pod, gate.get("conditionType", "")) for gate in gates)
    return f"{passed}/{len(gates)}" if gates else NONE


def _cells(pod: Obj, now: datetime) -> list[Any]:
    summary = _summary(pod)
    declared = spec(pod).get("initContainers") or ()
    total = len(spec(pod).get("containers") or ()) + sum(map(podspec.is_sidecar, declared))
    restarts = str(summary.restarts)
    if summary.restarts and summary.last_restart:
        restarts = f"{summary.restarts} ({since(summary.last_restart, now)} ago)"
    addresses = status(pod).get("podIPs") or [{"ip": status(pod).get("podIP")}]
    return [
        pod["metadata"]["name"],
        f"{summary.ready}/{total}",
        summary.reason,
        restarts,
        age(pod, now),
        addresses[0].get("ip") or NONE,
        spec(pod).get("nodeName") or NONE,
        status(pod).get("nominatedNodeName") or NONE,
        _gates(pod),
    ]


def _conditions(pod: Obj) -> list[Obj]:
    phase = status(pod).get("phase") or ""
    if phase not in _COMPLETED:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": _COMPLETED[phase]}]


def _template_spec(obj: Obj) -> Obj:
    found: Obj = (obj.get("template") or {}).get("spec") or {}
    return found


PRINTERS: Final[Printers] = {
    ("", "pods"): Printer(_COLUMNS, _cells, _conditions),
    ("", "podtemplates"): printer(
        NAME,
        *container_columns(_template_spec, wide=False),
        text("Pod Labels", lambda obj: labels_text(((obj.get("template") or {}).get("metadata") or {}).get("labels"))),
    ),
}
