"""Gangs of real containers: all of them or none."""

from pathlib import Path

from corral.base import quantities

from .conftest import Cell

MANIFEST = Path(__file__).parents[3] / "examples/manifests/gang.yaml"
TOO_LARGE = """
apiVersion: batch/v1
kind: Job
metadata: {name: large}
spec:
  completions: 3
  parallelism: 3
  template:
    spec:
      restartPolicy: Never
      schedulingGroup: {podGroupName: large}
      containers:
        - {name: worker, image: host, command: ["true"], resources: {requests: {cpu: CPU}}}
"""


def test_the_gangs_of_the_examples_run(cell: Cell) -> None:
    cell.kubectl("apply", "-f", str(MANIFEST))
    cell.kubectl("wait", "--for=condition=complete", "job/train", "job/solver", "--timeout=60s")
    said = cell.kubectl("logs", "-l", "job-name=train").stdout
    assert sorted(said.splitlines()) == [f"worker {number} of 3" for number in range(3)]
    groups = cell.kubectl("get", "podgroups.scheduling.k8s.io", "train").stdout.splitlines()
    assert groups[1].split()[:4] == ["train", "Gang", "<none>", "Scheduled"]
    cell.kubectl("wait", "--for=jsonpath={.status.phase}=Finished", "pg/solver", "--timeout=20s")
    cell.kubectl("delete", "-f", str(MANIFEST), "--timeout=60s")


def test_a_gang_of_which_only_some_fit_takes_no_machine(cell: Cell) -> None:
    milli = quantities.milli(cell.get("nodes")["items"][0]["status"]["allocatable"]["cpu"])
    cell.kubectl("apply", "-f", "-", stdin=TOO_LARGE.replace("CPU", f"{milli * 2 // 5}m"))
    cell.kubectl(
        *("wait", "--for=condition=PodGroupScheduled=false", "podgroups.scheduling.k8s.io/large", "--timeout=30s")
    )
    story = cell.corral("why", "large").stdout
    assert "pod group large: only 2 of 3 members fit: 0/1 nodes are available: 1 Insufficient cpu." in story
    pods = cell.get("pods", "-l", "job-name=large")["items"]
    assert [pod["spec"].get("nodeName") for pod in pods] == [None] * 3
    cell.kubectl("delete", "job", "large", "--timeout=60s")
    assert cell.kubectl("get", "podgroups.scheduling.k8s.io", "large", "--ignore-not-found").stdout == ""
