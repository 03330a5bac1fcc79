"""What runs while things break. Each container holds the lock of its ordinal or index and tells the journal.

The directory of locks and journal is one of the host's, which all machines of a fleet in network namespaces share: so
the kernel, and none of ours, says whether two of one ordinal are alive.
"""

from pathlib import Path
from typing import Any, Final

from .model import JobEnd, Line

SERVING: Final = "web"
REPLICAS: Final = 3
STATEFUL: Final = "ordinals"
ORDINALS: Final = 3
PORT: Final = 8080
COMPLETIONS: Final = 6

_TELL: Final = """tell() { at=$(date +%s.%N) && echo "$1 $APP $IDENTITY $POD_UID $NODE $at" >> /witness/journal; }
"""
"""When all processes of a machine are killed, `date` may be the first, and then there is nothing to tell."""
_HOLD: Final = """tell start
exec 9> "/witness/lock-$APP-$IDENTITY"
flock -n 9 || { tell double; flock 9; tell alone; }
"""
"""Once locked, the file stays so until the last process that has it open is dead, also if it stands still."""
_SERVE: Final = f"mkdir /tmp/www; hostname > /tmp/www/index.html; exec busybox httpd -f -p {PORT} -h /tmp/www"


def _container(app: str, identity: str, script: str) -> dict[str, Any]:
    own = {"IDENTITY": identity, "POD_UID": "metadata.uid", "NODE": "spec.nodeName"}
    fields = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in own.items()]
    return {
        "name": "main",
        "image": "host",
        "command": ["sh", "-c", script],
        "env": [{"name": "APP", "value": app}, *fields],
        "volumeMounts": [{"name": "witness", "mountPath": "/witness"}],
    }


def _template(app: str, container: dict[str, Any], witness: Path, **extra: Any) -> dict[str, Any]:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": app}},
    }
    spec = {
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [{"name": "witness", "hostPath": {"path": str(witness), "type": "Directory"}}],
        "topologySpreadConstraints": [spread],
        **extra,
    }
    return {"metadata": {"labels": {"app": app}}, "spec": spec}


def deployment(witness: Path) -> list[dict[str, Any]]:
    """A Deployment that serves, and its Service."""
    container = _container(SERVING, "metadata.name", _TELL + "tell start\n" + _SERVE)
    container["readinessProbe"] = {"httpGet": {"port": PORT}, "periodSeconds": 1, "failureThreshold": 2}
    labels = {"app": SERVING}
    spec = {
        "replicas": REPLICAS,
        "selector": {"matchLabels": labels},
        "template": _template(SERVING, container, witness),
    }
    service = {"selector": labels, "ports": [{"port": PORT}]}
    metadata = {"name": SERVING, "namespace": "default"}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
    ]


def stateful_set(witness: Path) -> dict[str, Any]:
    """A StatefulSet of which no ordinal may run twice."""
    container = _container(STATEFUL, "metadata.name", _TELL + _HOLD + "exec sleep 1000000")
    spec = {
        "replicas": ORDINALS,
        "serviceName": STATEFUL,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": STATEFUL}},
        "template": _template(STATEFUL, container, witness),
    }
    metadata = {"name": STATEFUL, "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}


def job(name: str, witness: Path, seconds: float) -> dict[str, Any]:
    """An indexed Job; a successor comes when its pod has surely ended, so that no index runs twice at once."""
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    container = _container(name, index, _TELL + _HOLD + f"sleep {seconds:g}\ntell done")
    spec = {
        "completionMode": "Indexed",
        "completions": COMPLETIONS,
        "parallelism": 3,
        "backoffLimit": 1000,
        "podReplacementPolicy": "Failed",
        "template": _template(name, container, witness, restartPolicy="Never"),
    }
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def ended(job: dict[str, Any]) -> JobEnd:
    """What the API says of a Job."""
    status = job.get("status") or {}
    return JobEnd(
        job["metadata"]["name"],
        job["spec"]["completions"],
        status.get("succeeded", 0),
        status.get("completedIndexes", ""),
    )


def read_journal(witness: Path, began: float) -> list[Line]:
    """The journal, in seconds since the wall time `began`."""
    lines = []
    for text in (witness / "journal").read_text().splitlines():
        event, app, identity, uid, node, at = text.split()
        lines.append(Line(event, app, identity, uid, node, float(at) - began))
    return lines
