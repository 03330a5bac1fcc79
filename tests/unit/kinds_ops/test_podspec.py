from typing import Any

import pytest

from corral.kinds import podspec
from corral.kinds.types import Obj


def container(requests: Obj | None = None, limits: Obj | None = None, **more: Any) -> Obj:
    resources = {"requests": requests or {}, "limits": limits or {}}
    return {"name": "c", "resources": resources, **more}


def pod(*containers: Obj, init: tuple[Obj, ...] = (), **spec: Any) -> Obj:
    return {"spec": {"containers": list(containers), "initContainers": list(init), **spec}}


def test_sum_of_containers_and_defaulted_requests() -> None:
    subject = pod(container({"cpu": "100m", "memory": "1Gi"}), container(None, {"cpu": "1", "example.com/gpu": 2}))
    assert podspec.pod_requests(subject) == {"cpu": 1100, "memory": 2**30, "example.com/gpu": 2}
    assert podspec.pod_limits(subject) == {"cpu": 1000, "example.com/gpu": 2}


def test_largest_init_container_counts_with_the_sidecars_before_it() -> None:
    subject = pod(
        container({"cpu": "1"}),
        init=(
            container({"cpu": "1500m"}),
            container({"cpu": "500m"}, restartPolicy="Always"),
            container({"cpu": "1400m", "memory": "1Mi"}),
            container({"cpu": "100m"}, restartPolicy="Always"),
        ),
    )
    # Steps: 1500, then 500, then 1400 + 500, then 600; running: 1000 + 500 + 100.
    assert podspec.pod_requests(subject) == {"cpu": 1900, "memory": 2**20}


def test_overhead() -> None:
    subject = pod(container({"cpu": "1"}, {"cpu": "2"}), overhead={"cpu": "250m", "memory": "1Mi"})
    assert podspec.pod_requests(subject) == {"cpu": 1250, "memory": 2**20}
    assert podspec.pod_limits(subject) == {"cpu": 2250}


def test_pod_level_resources_win() -> None:
    subject = pod(
        container({"cpu": "1", "example.com/gpu": "1"}),
        resources={"requests": {"cpu": "3"}, "limits": {"cpu": "4", "memory": "1Gi"}},
        overhead={"cpu": "1"},
    )
    assert podspec.pod_requests(subject) == {"cpu": 4000, "memory": 2**30, "example.com/gpu": 1}
    assert podspec.pod_limits(subject) == {"cpu": 5000, "memory": 2**30}


FULL: Obj = {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (pod(container()), "BestEffort"),
        (pod(container({"cpu": "0"})), "BestEffort"),
        (pod(container({"example.com/gpu": "1"})), "BestEffort"),
        (pod(container({"cpu": "1"})), "Burstable"),
        (pod(container(FULL, FULL)), "Guaranteed"),
        (pod(container(None, FULL)), "Guaranteed"),
        (pod(container({"cpu": "1000m", "memory": "1024Mi"}, FULL)), "Guaranteed"),
        (pod(container({"cpu": "500m"}, FULL)), "Burstable"),
        (pod(container(FULL, FULL), container()), "Burstable"),
        (pod(container(FULL, FULL), init=(container(),)), "Burstable"),
        (pod(container(), resources={"requests": FULL, "limits": FULL}), "Guaranteed"),
        (pod(container(), resources={"limits": {"cpu": "1"}}), "Burstable"),
    ],
)
def test_qos(subject: Obj, expected: str) -> None:
    assert podspec.qos_class(subject) == expected


def test_host_ports() -> None:
    claimed = container(ports=[{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}])
    sidecar = container(restartPolicy="Always", ports=[{"containerPort": 1, "hostPort": 53, "protocol": "UDP"}])
    assert podspec.host_ports(pod(claimed, init=(sidecar, claimed))) == [
        podspec.HostPort("TCP", "0.0.0.0", 8080),
        podspec.HostPort("UDP", "0.0.0.0", 53),
    ]
    assert [port.port for port in podspec.host_ports(pod(claimed, hostNetwork=True))] == [8080, 81]


def test_phase_and_readiness() -> None:
    assert podspec.phase({}) == "Pending"
    assert not podspec.is_terminal({"status": {"phase": "Running"}})
    assert podspec.is_terminal({"status": {"phase": "Failed"}})
    assert podspec.is_ready({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
    assert not podspec.is_ready({"status": {}})
    assert podspec.priority({"spec": {"priority": 7}}) == 7
    assert podspec.priority({}) == 0
    assert [c["name"] for c in podspec.containers(pod({"name": "b"}, init=({"name": "a"},)))] == ["a", "b"]
