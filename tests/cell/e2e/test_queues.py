"""Queues with real containers: one after the other, and out of the way when somebody's own quota is wanted back."""

from pathlib import Path

from .conftest import Cell

MANIFEST = Path(__file__).parents[3] / "examples/manifests/queue.yaml"
RUN = ("run", "-q", "-d", "--cpu", "100m", "--memory", "64Mi")
READY = "--for=jsonpath={.status.ready}=1"


def test_programs_wait_run_make_way_and_come_back(cell: Cell, tmp_path: Path) -> None:
    cell.kubectl("apply", "-f", str(MANIFEST))
    # Two fit: red's own 100m, and blue's, which is idle. A shell that ends on SIGTERM makes way at once.
    for number in range(3):
        program = ("sh", "-c", "trap 'exit 143' TERM; for i in $(seq 80); do sleep 0.1; done")
        cell.corral(*RUN, "--queue", "red", "--name", f"red-{number}", "--", *program, cwd=tmp_path)
    cell.kubectl("wait", READY, "job/red-0", "job/red-1", "--timeout=30s")
    story = cell.corral("queue", "job/red-2").stdout
    assert "job/red-2 waits in localqueue/red (ClusterQueue red): position 1" in story
    assert "needs 100m cpu of flavor any: quota 100m, used 200m, free 0" in story
    assert "turn in: unknown" in story
    assert "it waits in the queue red: couldn't assign flavors" in cell.corral("why", "red-2").stdout
    assert cell.get("pods", "-l", "job-name=red-2")["items"] == []

    cell.corral(*RUN, "--queue", "blue", "--name", "blue-0", "--", "sleep", "3", cwd=tmp_path)
    cell.kubectl("wait", READY, "job/blue-0", "--timeout=30s")
    conditions = {
        item["metadata"]["ownerReferences"][0]["name"]: {one["type"]: one for one in item["status"]["conditions"]}
        for item in cell.get("workloads.kueue.x-k8s.io")["items"]
    }
    # The one admitted later; of two in one second, either.
    (away,) = (name for name in ("red-0", "red-1") if "Preempted" in conditions[name])
    assert conditions[away]["Preempted"]["reason"] == "InCohortReclamation"
    assert conditions["red-1" if away == "red-0" else "red-0"]["Admitted"]["status"] == "True"
    for name in ("red-0", "red-1", "red-2", "blue-0"):
        cell.kubectl("wait", "--for=condition=complete", f"job/{name}", "--timeout=60s")
    assert "estimates rest on the last 3 that ended" in cell.corral("queue", "red").stdout
    cell.kubectl("delete", "-f", str(MANIFEST), "--timeout=60s")
