"""A claim on a machine with real containers: what one pod writes the next one reads, and it goes with the claim."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Cell

CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: notes}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  restartPolicy: Never
  containers: [{name: c, image: host, command: [sh, -c, "SCRIPT"], volumeMounts: [{name: v, mountPath: /notes}]}]
  volumes: [{name: v, persistentVolumeClaim: {claimName: notes, readOnly: READONLY}}]
"""


@pytest.fixture
def namespace(cell: Cell, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one test."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]
    cell.kubectl("create", "namespace", name)
    yield name
    cell.kubectl("delete", "namespace", name, "--wait=true", "--timeout=60s")


def test_what_a_pod_writes_into_a_claim_the_next_one_reads(cell: Cell, namespace: str) -> None:
    def kubectl(*arguments: str, stdin: str | None = None) -> str:
        return cell.kubectl("-n", namespace, *arguments, stdin=stdin).stdout

    def run(name: str, script: str, *, read_only: bool = False) -> str:
        manifest = POD.replace("NAME", name).replace("SCRIPT", script).replace("READONLY", str(read_only).lower())
        kubectl("apply", "-f", "-", stdin=manifest)
        kubectl("wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
        said = kubectl("logs", name)
        kubectl("delete", "pod", name)
        return said

    kubectl("apply", "-f", "-", stdin=CLAIM)
    assert "corral-local (default)" in kubectl("get", "storageclass")
    assert kubectl("get", "pvc", "notes", "-o", "jsonpath={.status.phase}") == "Pending"
    # A link out of the volume leads nowhere but to the next pod's own files.
    run("writer", "echo remember > /notes/file; ln -s /etc /notes/link; mkdir /notes/sub")
    assert run("reader", "cat /notes/file") == "remember\n"
    assert "Read-only" in run("looker", "cat /notes/file; touch /notes/x 2>&1; true", read_only=True)
    volume = kubectl("get", "pvc", "notes", "-o", "jsonpath={.spec.volumeName}")
    directory = Path(kubectl("get", "pv", volume, "-o", "jsonpath={.spec.local.path}"))
    assert (directory / "file").read_text() == "remember\n"
    assert directory.is_relative_to(cell.data_dir)
    kubectl("delete", "pvc", "notes", "--timeout=60s")
    kubectl("wait", f"pv/{volume}", "--for=delete", "--timeout=60s")
    deadline = time.monotonic() + 10
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not directory.exists()
    assert Path("/etc/passwd").exists()
