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


def resized(*statuses: Obj, infeasible: bool = False, **status: Any) -> Obj:
    """A pod whose containers a and b ask for 1 and 2 cores; statuses as an agent reports them."""
    subject = pod(container({"cpu": "1"}), container({"cpu": "2"}))
    for one, name in zip(subject["spec"]["containers"], "ab", strict=True):
        one["name"] = name
    subject["status"] = {"containerStatuses": list(statuses), **status}
    if infeasible:
        subject["status"]["conditions"] = [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]
    return subject


def holds(name: str, allocated: str, actual: str) -> Obj:
    return {"name": name, "allocatedResources": {"cpu": allocated}, "resources": {"requests": {"cpu": actual}}}


@pytest.mark.parametrize(
    ("subject", "cpu", "is_resized"),
    [
        (resized(), 3000, False),
        (resized({"name": "a", "ready": True}), 3000, False),
        (resized(holds("a", "1", "1000m"), holds("b", "2", "2")), 3000, False),
        # It shrinks: what it still has is not free yet.
        (resized(holds("a", "1", "4")), 6000, True),
        (resized(holds("a", "3", "1")), 5000, True),
        # It grows: what it will get is promised already.
        (resized(holds("b", "500m", "500m")), 3000, True),
        # It cannot grow on this machine: what it asks for does not count.
        (resized(holds("b", "500m", "700m"), infeasible=True), 1700, True),
        (resized(infeasible=True), 3000, False),
    ],
)
def test_a_container_that_is_resized_holds_the_most_of_what_it_asks_for_and_has(
    subject: Obj, cpu: int, is_resized: bool
) -> None:
    assert podspec.pod_requests(subject, held=True) == {"cpu": cpu}
    assert podspec.pod_requests(subject) == {"cpu": 3000}
    assert bool(podspec.resizing(subject)) is is_resized


def test_init_containers_are_not_resized_but_sidecars_are() -> None:
    subject = pod(
        container({"cpu": "1"}) | {"name": "main"},
        init=(container({"cpu": "1"}) | {"name": "once"}, container({"cpu": "1"}, restartPolicy="Always")),
    )
    told = [holds("once", "9", "9"), holds("c", "3", "2")]
    subject["status"] = {"containerStatuses": [{"name": "main"}], "initContainerStatuses": told}
    assert podspec.pod_requests(subject, held=True) == {"cpu": 4000}


def test_pod_level_requests_that_are_resized() -> None:
    subject = pod(container({"cpu": "1"}), resources={"requests": {"cpu": "2"}}, overhead={"cpu": "500m"})
    subject["status"] = {"containerStatuses": [{"name": "c"}], "allocatedResources": {"cpu": "4500m"}}
    assert podspec.pod_requests(subject, held=True) == {"cpu": 4500}
    subject["status"]["allocatedResources"] = {"cpu": "1"}
    assert podspec.pod_requests(subject, held=True) == {"cpu": 2500}


def test_what_a_container_counts_for_that_asks_for_nothing() -> None:
    assumed = {"cpu": 100, "memory": 200}
    subject = pod(container(), container({"cpu": "1"}), container({"cpu": "0"}))
    assert podspec.pod_requests(subject, missing=assumed) == {"cpu": 1100, "memory": 600}


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (pod(container({"hugepages-2Mi": "4Mi", "ephemeral-storage": "1G"})),
         {"hugepages-2Mi": 4 << 20, "ephemeral-storage": 10**9}),
        # Pod-level: cpu, memory and huge pages only; an extended resource is asked for by containers.
        (pod(container(), resources={"requests": {"hugepages-2Mi": "4Mi", "example.com/gpu": "1"}}),
         {"hugepages-2Mi": 4 << 20}),
        (pod(container({"ephemeral-storage": "1"}), resources={"requests": {"ephemeral-storage": "9"}}),
         {"ephemeral-storage": 1}),
        # A limit for the pod alone is its request, unless containers ask for something.
        (pod(container({"cpu": "1"}), resources={"limits": {"cpu": "4", "memory": "1"}}), {"cpu": 1000, "memory": 1}),
        (pod(container({"cpu": "0"}), container({"example.com/x": "0"})), {"cpu": 0, "example.com/x": 0}),
        (pod(container({"cpu": "100u", "memory": "100m"})), {"cpu": 1, "memory": 1}),
        (pod(container(), overhead={"ephemeral-storage": "1", "example.com/x": "2"}),
         {"ephemeral-storage": 1, "example.com/x": 2}),
        (pod(container({"memory": "3"}), init=(container({"memory": "5"}, restartPolicy="Always"),)), {"memory": 8}),
        (pod(container({"memory": "3"}), init=(container({"memory": "5"}),)), {"memory": 5}),
        (pod(container({"memory": "3"}),
             init=(container({"memory": "2"}, restartPolicy="Always"), container({"memory": "2"}))), {"memory": 5}),
    ],
)  # fmt: skip
def test_rules_of_sums(subject: Obj, expected: Obj) -> None:
    assert podspec.pod_requests(subject) == expected
