"""The pod state machine.

`step` is level-triggered: it looks at the whole pod and everything observed, and says what to do now, what to report
and when to look again. It holds no state of its own. Rules are the kubelet's: init containers in order, sidecars before
the next init container and after the last main one, crash back-off 10 s doubling to 5 min, a lost sandbox is made anew
unless nothing would run in it, terminal pods keep their containers (for logs and files) until the object is deleted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from corral.agent.podstate import model
from corral.agent.podstate.model import Instruction, Observed, Step
from corral.agent.podstate.status import render
from corral.agent.podstate.view import View, is_started, views
from corral.agent.runtime.api import ContainerState
from corral.base.clock import parse_rfc3339
from corral.kinds.types import Obj

DEFAULT_GRACE = 30
TERMINAL = frozenset({"Succeeded", "Failed"})
_PULL_BACKOFF_SHOWN = timedelta(seconds=1)
"""How long ErrImagePull is shown before it becomes ImagePullBackOff."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why nothing is to be started any more. `phase` is forced when it is not empty."""

    why: str
    phase: str = ""
    reason: str = ""
    message: str = ""
    remove: bool = False
    """The object is being deleted: clean up everything."""


def step(
    pod: Obj, seen: Observed, previous: Obj, now: datetime, *, host_addresses: Sequence[str] = ("127.0.0.1",)
) -> Step:
    """What to do with `pod`, given everything `seen` and the status last decided (`previous`).

    Raises:
        IllegalObservation: two live instances of one container name, or containers that the pod does not have.
    """
    found = views(pod, seen, previous)
    _check(pod, seen, found)
    ending = _held_back(_ending(pod, seen, found, previous, now), seen, found, previous)
    plan = _Plan(pod, seen, found, now)
    if seen.fenced and _live(found):
        plan.fence()
    elif ending is not None:
        plan.end(ending)
    elif not seen.fenced:
        plan.go_on()
    status = render(
        pod,
        seen,
        found,
        previous,
        now,
        host_addresses,
        phase=ending.phase if ending else "",
        reason=ending.reason if ending else "",
        message=ending.message if ending else "",
        ending=ending is not None,
        removing=ending is not None and ending.remove,
    )
    return Step(tuple(plan.instructions), status, plan.wake_at)


def _check(pod: Obj, seen: Observed, found: Sequence[View]) -> None:
    names = {view.name for view in found}
    live: dict[str, str] = {}
    for container in seen.containers:
        if container.name not in names:
            raise model.IllegalObservation(
                f"container {container.id} is named {container.name!r}, which the pod lacks; {_story(pod, seen)}"
            )
        if container.state is ContainerState.EXITED:
            continue
        if container.name in live:
            raise model.IllegalObservation(
                f"containers {live[container.name]} and {container.id} are both live instances of "
                f"{container.name!r}; {_story(pod, seen)}"
            )
        live[container.name] = container.id


def _story(pod: Obj, seen: Observed) -> str:
    metadata = pod["metadata"]
    told = [
        f"{container.name}#{container.attempt}={container.state.value}"
        + (f"({container.exit_code})" if container.exit_code is not None else "")
        for container in seen.containers
    ]
    sandbox = "none" if seen.sandbox is None else f"{seen.sandbox.id} ready={seen.sandbox.ready}"
    return (
        f"pod {metadata.get('namespace')}/{metadata.get('name')} uid {metadata.get('uid')}, "
        f"deleted={metadata.get('deletionTimestamp')}, sandbox {sandbox}, containers [{', '.join(told)}], "
        f"busy {sorted(seen.busy)}"
    )


def _ending(pod: Obj, seen: Observed, found: Sequence[View], previous: Obj, now: datetime) -> Ending | None:
    """Why the pod ends, or None while it goes on."""
    remove = seen.gone or bool(pod["metadata"].get("deletionTimestamp"))
    phase, reason, message = (previous.get(field) or "" for field in ("phase", "reason", "message"))
    if phase in TERMINAL:
        return Ending("it has ended", phase, reason, message, remove)
    if seen.rejected is not None:
        return Ending("it was rejected", "Failed", seen.rejected.reason, seen.rejected.message, remove)
    if _overdue(pod, found, previous, now):
        said = "Pod was active on the node longer than the specified deadline"
        return Ending("its deadline has passed", "Failed", "DeadlineExceeded", said, remove)
    outcome = _outcome(found)
    if outcome:
        return Ending("its containers have ended", "" if _live(found) else outcome, remove=remove)
    if remove:
        return Ending("it is being deleted", "" if _live(found) else _final_phase(found), remove=True)
    return None


def _held_back(ending: Ending | None, seen: Observed, found: Sequence[View], previous: Obj) -> Ending | None:
    """A pod is not said to have ended while something of it runs or is about to: whoever replaces it would have two."""
    runs = _live(found) or any(key.startswith("container/") for key in seen.busy)
    if ending is None or not runs or previous.get("phase") in TERMINAL:
        return ending
    return replace(ending, phase="", reason="", message="")


def _outcome(found: Sequence[View]) -> str:
    """`Succeeded` or `Failed` if no init or main container is to run again, else empty."""
    for view in found:
        failed = view.past is not None and view.past.exit_code != 0
        if view.role == "init" and not view.live and failed and not view.wants_restart():
            return "Failed"
    mains = [view for view in found if view.role == "main"]
    if not mains or any(view.live or view.past is None or view.wants_restart() for view in mains):
        return ""
    return _final_phase(found)


def _final_phase(found: Sequence[View]) -> str:
    mains = [view for view in found if view.role == "main"]
    return "Succeeded" if all(view.past and view.past.exit_code == 0 for view in mains) else "Failed"


def _live(found: Sequence[View]) -> bool:
    return any(view.live for view in found)


def deadline(pod: Obj, previous: Obj) -> datetime | None:
    """When `activeDeadlineSeconds` ends."""
    seconds = pod["spec"].get("activeDeadlineSeconds")
    started = previous.get("startTime") or (pod.get("status") or {}).get("startTime")
    if seconds is None or not started:
        return None
    return parse_rfc3339(started) + timedelta(seconds=int(seconds))


def _overdue(pod: Obj, found: Sequence[View], previous: Obj, now: datetime) -> bool:
    """Whether the deadline has passed, and the pod had not ended by itself until then."""
    ends = deadline(pod, previous)
    if ends is None or now < ends:
        return False
    late = any(view.past and view.past.finished and view.past.finished > ends for view in found)
    return late or not _outcome(found)


def grace_of(pod: Obj) -> int:
    """Seconds that containers get to end."""
    asked = pod["metadata"].get("deletionGracePeriodSeconds")
    if pod["metadata"].get("deletionTimestamp") and asked is not None:
        return max(0, int(asked))
    default = pod["spec"].get("terminationGracePeriodSeconds")
    return DEFAULT_GRACE if default is None else max(0, int(default))


class _Plan:
    """Collects instructions and the next wake-up of one step."""

    def __init__(self, pod: Obj, seen: Observed, found: Sequence[View], now: datetime) -> None:
        self.pod = pod
        self.seen = seen
        self.found = found
        self.now = now
        self.instructions: list[Instruction] = []
        self.wake_at: datetime | None = None

    # the pod ends

    def end(self, ending: Ending) -> None:
        """Stop containers, sidecars last; then, for a deleted pod, take everything down."""
        rejected = self.seen.rejected
        grace = grace_of(self.pod) if rejected is None or rejected.grace is None else rejected.grace
        live = [view for view in self.found if view.live]
        first = [view for view in live if view.role != "sidecar"]
        for view in first:
            self._kill(view, grace, f"Stopping container {view.name}")
        if not first and live and not any(key.startswith("container/") for key in self.seen.busy):
            self._kill(live[-1], grace, f"Stopping container {live[-1].name}")
        if live or self.seen.busy or not (ending.remove or self.seen.unwanted):
            return
        if self.seen.sandbox is not None:
            self._unless_failed(self.seen.sandbox_failure, model.RemoveSandbox(self.seen.sandbox.id))
        elif self.seen.volumes.present:
            self.instructions.append(model.TeardownVolumes())
        elif ending.remove:
            self.instructions.append(model.FinishPod())

    def fence(self) -> None:
        """Kill everything: its successor elsewhere does not wait for a grace period."""
        for view in self.found:
            if view.live:
                self._kill(view, 0, f"Killing container {view.name}: the machine is cut off from its server")

    # the pod goes on

    def go_on(self) -> None:
        """Bring the pod one step nearer to all its containers running."""
        self._watch_deadline()
        self._kill_condemned()
        wanted = self._wanted()
        sandbox_ready = self._sandbox(bool(wanted) or any(view.live for view in self.found))
        volumes_ready = self._volumes()
        for view in wanted:
            image_id = self._image(view)
            if sandbox_ready and volumes_ready and image_id:
                self._start(view, image_id)

    def _watch_deadline(self) -> None:
        ends = deadline(self.pod, self.pod.get("status") or {})
        if ends is not None:
            self._wake(ends)

    def _kill_condemned(self) -> None:
        for view in self.found:
            doom = self.seen.condemned.get(view.live.id) if view.live else None
            if doom is not None:
                self._kill(view, grace_of(self.pod) if doom.grace is None else doom.grace, doom.message)

    def _sandbox(self, needed: bool) -> bool:
        """Whether the sandbox is there; sees to it if it is not."""
        sandbox = self.seen.sandbox
        if sandbox is not None and sandbox.ready:
            return True
        if sandbox is not None:
            if not self._container_busy() and model.SANDBOX not in self.seen.busy:
                self._unless_failed(self.seen.sandbox_failure, model.RemoveSandbox(sandbox.id))
        elif needed and model.SANDBOX not in self.seen.busy:
            self._unless_failed(self.seen.sandbox_failure, model.CreateSandbox(self.seen.sandbox_attempts))
        return False

    def _volumes(self) -> bool:
        if not self.seen.volumes.ready and model.VOLUMES not in self.seen.busy:
            self._unless_failed(self.seen.volumes.failure, model.PrepareVolumes())
        return self.seen.volumes.ready

    def _wanted(self) -> list[View]:
        """Containers that should be started now, apart from back-off and what they need."""
        wanted: list[View] = []
        initialized = self._main_began()
        for view in self.found:
            if view.role not in ("init", "sidecar"):
                continue
            if view.role == "init" and not initialized and not self._init_done(view):
                return wanted + ([] if view.running else [view])
            if view.role == "sidecar":
                if not view.running:
                    wanted.append(view)
                if not initialized and not self._started(view):
                    return wanted
        for view in self.found:
            if view.role in ("main", "ephemeral") and not view.running and view.wants_restart():
                wanted.append(view)
        return wanted

    def _main_began(self) -> bool:
        """Initialization is over once a main container was started in this sandbox."""
        sandbox = self.seen.sandbox
        return sandbox is not None and any(
            (view.live is not None and view.live.sandbox_id == sandbox.id)
            or (view.past is not None and view.past.sandbox_id == sandbox.id)
            for view in self.found
            if view.role == "main"
        )

    def _init_done(self, view: View) -> bool:
        past, sandbox = view.past, self.seen.sandbox
        return (
            view.live is None
            and past is not None
            and past.exit_code == 0
            and sandbox is not None
            and past.sandbox_id == sandbox.id
        )

    def _started(self, view: View) -> bool:
        return is_started(view, self.seen)

    def _image(self, view: View) -> str:
        """The id of the image for the next attempt, or empty; asks for it when it is time."""
        attempt = view.next_attempt
        key = model.image_key(view.name)
        image = self.seen.images.get(view.name)
        due = view.due()
        if due is not None and due > self.now:
            self._wake(due)
            return ""
        if key in self.seen.busy:
            return ""
        if image is None or (image.attempt != attempt and image.failure is None):
            self.instructions.append(model.EnsureImage(view.name, attempt))
            return ""
        if image.failure is not None:
            if self.now < image.failure.at + _PULL_BACKOFF_SHOWN:
                self._wake(image.failure.at + _PULL_BACKOFF_SHOWN)
            self._unless_failed(image.failure, model.EnsureImage(view.name, attempt))
            return ""
        return image.image_id

    def _start(self, view: View, image_id: str) -> None:
        if model.start_key(view.name) in self.seen.busy:
            return
        if view.live is not None:
            self.instructions.append(model.RemoveContainer(view.live.id, view.name))
            return
        start = model.StartContainer(view.name, view.next_attempt, image_id, view.next_streak())
        self._unless_failed(self.seen.start_failures.get(view.name), start)

    # shared

    def _container_busy(self) -> bool:
        return any(key.startswith("container/") for key in self.seen.busy)

    def _unless_failed(self, failure: model.Failure | None, instruction: Instruction) -> None:
        if failure is not None and self.now < failure.retry_at:
            self._wake(failure.retry_at)
        else:
            self.instructions.append(instruction)

    def _kill(self, view: View, grace: int, message: str) -> None:
        live = view.live
        if live is None or model.start_key(view.name) in self.seen.busy:
            return
        if live.state is ContainerState.CREATED:
            self.instructions.append(model.RemoveContainer(live.id, view.name))
            return
        ends = self.seen.killing.get(live.id)
        if ends is None or self.now + timedelta(seconds=grace) < ends:
            self.instructions.append(model.KillContainer(live.id, view.name, grace, message))

    def _wake(self, moment: datetime) -> None:
        if self.wake_at is None or moment < self.wake_at:
            self.wake_at = moment
