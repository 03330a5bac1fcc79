"""Programs as objects: the Job that `corral run` makes, and what a Job's pods say of it. Pure."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from corral.base.errors import CorralError
from corral.base.ids import suffix
from corral.kinds.bundled.queues import QUEUE_LABEL
from corral.kinds.types import Obj

SOURCE_DRIVER = "source.corral.dev"
WORK_DIR = "/work"
WORK_VOLUME = "work"
CONTAINER = "main"
KEEP_FINISHED_SECONDS = 24 * 3600
GRACE_SECONDS = 10
"""Between SIGTERM and SIGKILL, as docker stop has it."""
NAME_LIMIT = 52
"""A Job's name has 63 characters at the most, and its pods' names add a dash and a suffix."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a person hands over. `memory` and `cpu` are Kubernetes quantities, or empty."""

    name: str
    argv: Sequence[str]
    image: str
    digest: str
    """SHA-256 in hex of the packed directory."""
    cpu: str = ""
    memory: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bool = False
    tty: bool = False
    queue: str = ""
    """The LocalQueue that it waits in; empty: it does not wait."""


def name_for(argv: Sequence[str], rng: random.Random) -> str:
    """A name for a program: the script's or the program's own, and a random suffix."""
    word = argv[0].rsplit("/", 1)[-1]
    if len(argv) > 1 and re.fullmatch(r"(python|bash|sh|node|perl|ruby)[0-9.]*", word) and not argv[1].startswith("-"):
        word = argv[1].rsplit("/", 1)[-1].rsplit(".", 1)[0]
    word = re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")[: NAME_LIMIT - 6].strip("-")
    return f"{word or 'program'}-{suffix(rng)}"


def parse_env(settings: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """`NAME=VALUE` settings; a bare `NAME` takes the value from `environ`, as docker's does.

    Raises:
        CorralError: a bare name is not set, or a name is empty.
    """
    env: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name:
            raise CorralError(f"cannot read --env {setting!r}: it has no name", "write --env NAME=VALUE")
        if not equals:
            if name not in environ:
                raise CorralError(f"cannot take --env {name} from here: {name} is not set", f"write --env {name}=VALUE")
            value = environ[name]
        env[name] = value
    return env


def literal(text: str) -> str:
    """`text` so that Kubernetes' `$(NAME)` expansion of commands and values gives it back unchanged."""
    return text.replace("$", "$$")


def job(program: Program) -> Obj:
    """The Job that runs a program once.

    A failing program fails the Job at once, since its exit code is the answer; a pod lost with its machine
    (`DisruptionTarget`) is run again. The program gets no credentials of the cell.
    """
    requests = {"cpu": program.cpu or "100m", "memory": program.memory or "128Mi"}
    resources: dict[str, Any] = {"requests": requests}
    if program.memory:
        resources["limits"] = {"memory": program.memory}
    container: Obj = {
        "name": CONTAINER,
        "image": program.image,
        "command": [literal(part) for part in program.argv],
        "workingDir": WORK_DIR,
        "env": [{"name": name, "value": literal(value)} for name, value in program.env.items()],
        "resources": resources,
        "volumeMounts": [{"name": WORK_VOLUME, "mountPath": WORK_DIR}],
    }
    if program.stdin:
        container |= {"stdin": True, "stdinOnce": True}
    if program.tty:
        container["tty"] = True
    labels = {"app.kubernetes.io/name": program.name, "app.kubernetes.io/managed-by": "corral"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": program.name,
            "labels": {**labels, QUEUE_LABEL: program.queue} if program.queue else labels,
        },
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": KEEP_FINISHED_SECONDS,
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": GRACE_SECONDS,
                    "automountServiceAccountToken": False,
                    "containers": [container],
                    "volumes": [
                        {
                            "name": WORK_VOLUME,
                            "csi": {"driver": SOURCE_DRIVER, "volumeAttributes": {"digest": program.digest}},
                        }
                    ],
                },
            },
        },
    }


def container_status(pod: Obj, name: str = CONTAINER) -> Obj:
    """The status of one container of a pod; empty while there is none."""
    for status in pod.get("status", {}).get("containerStatuses") or ():
        if status["name"] == name:
            return dict(status)
    return {}


def terminated(pod: Obj, name: str = CONTAINER) -> Obj | None:
    """How the container ended, or None while it has not."""
    state = container_status(pod, name).get("state", {}).get("terminated")
    return dict(state) if state is not None else None


def waiting(pod: Obj, name: str = CONTAINER) -> Obj:
    """Why the container waits; empty when it does not."""
    return dict(container_status(pod, name).get("state", {}).get("waiting") or {})


def exit_code(ended: Obj) -> int:
    """The code that `corral run` ends with, docker's convention: the program's own, or 126 for a program that cannot
    be executed, 127 for one that does not exist."""
    message = ended.get("message", "")
    if ended.get("reason") in {"StartError", "ContainerCannotRun"}:
        if "not found" in message or "no such file" in message.lower():
            return 127
        return 126
    return int(ended.get("exitCode", 1))
