"""From pods to what the runtime makes of them."""

from pathlib import Path
from typing import Any

import pytest

from corral.agent.env import ConfigError
from corral.agent.layout import Layout
from corral.agent.runtime.api import ContainerSpec, Mount, PortMapping
from corral.agent.spec_builder import (
    Dns,
    Place,
    container_spec,
    etc_files,
    hostname_of,
    oom_score_adj,
    quota,
    resolv_conf,
    sandbox_spec,
    security,
    shares,
)
from corral.kinds.types import Obj

GIB = 1 << 30


def pod(*containers: Obj, **spec: Any) -> Obj:
    metadata = {"name": "web", "namespace": "shop", "uid": "u1"}
    return {"metadata": metadata, "spec": {"containers": list(containers) or [{"name": "c"}], **spec}}


def resources(requests: Obj | None = None, limits: Obj | None = None) -> Obj:
    return {"name": "c", "resources": {"requests": requests or {}, "limits": limits or {}}}


def built(obj: Obj, mounts: list[Mount] | None = None) -> ContainerSpec:
    place = Place("id", "box", 2, "sha", Layout(Path("/d")), mounts or [], 8 * GIB)
    return container_spec(obj, obj["spec"]["containers"][0], [("A", "1")], place)


@pytest.mark.parametrize(("milli", "weight"), [(0, 2), (1, 2), (100, 102), (1000, 1024), (10**6, 262144)])
def test_shares(milli: int, weight: int) -> None:
    assert shares(milli) == weight


@pytest.mark.parametrize(("milli", "microseconds"), [(0, 0), (1, 1000), (500, 50000), (2000, 200000)])
def test_quota(milli: int, microseconds: int) -> None:
    assert quota(milli) == microseconds


@pytest.mark.parametrize(
    ("container", "score"),
    [
        (resources(), 1000),
        (resources({"cpu": "1", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"}), -997),
        (resources({"memory": "2Gi"}), 750),
        (resources({"memory": "1Mi"}), 999),
        (resources({"memory": "8Gi"}), 3),
    ],
)
def test_oom_score(container: Obj, score: int) -> None:
    assert oom_score_adj(pod(container), container, 8 * GIB) == score


def test_a_container() -> None:
    container = {
        **resources({"cpu": "250m"}, {"cpu": "500m", "memory": "64Mi"}),
        "command": ["sh", "-c"],
        "args": ["echo $(A) $(B)"],
        "workingDir": "/w",
        "tty": True,
        "stdin": True,
    }
    spec = built(pod(container))
    assert (spec.command, spec.args) == (("sh", "-c"), ("echo 1 $(B)",))
    assert (spec.resources.cpu_shares, spec.resources.cpu_quota, spec.resources.memory_limit) == (256, 50000, 64 << 20)
    assert dict(spec.env) == {"A": "1", "HOSTNAME": "web"}
    assert spec.log_path == "/d/logs/shop_web_u1/c/2.log"
    assert {mount.target for mount in spec.mounts} == {
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/dev/termination-log",
    }


def test_own_mounts_win_over_the_agents() -> None:
    mine = Mount("/x", "/etc/hosts")
    found = [mount for mount in built(pod(), [mine]).mounts if mount.target == "/etc/hosts"]
    assert found == [mine]


def test_a_sandbox() -> None:
    container = {
        **resources({"cpu": "1"}, {"cpu": "2", "memory": "1Gi"}),
        "ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}],
    }
    context = {"sysctls": [{"name": "net.core.somaxconn", "value": "99"}]}
    spec = sandbox_spec(pod(container, securityContext=context, hostPID=True), "u1-0", machine_name="m1")
    assert spec.ports == (PortMapping(8080, 80),)
    assert (spec.cpu_weight, spec.cpu_quota, spec.memory_limit) == (1024, 200000, GIB)
    assert (spec.hostname, spec.host_pid, spec.sysctls) == ("web", True, {"net.core.somaxconn": "99"})


def test_a_pod_with_one_unlimited_container_is_unlimited() -> None:
    spec = sandbox_spec(pod(resources({}, {"memory": "1Gi"}), {"name": "d"}), "u1-0", machine_name="m1")
    assert spec.memory_limit == 0


def test_host_network() -> None:
    spec = sandbox_spec(pod({"name": "c", "ports": [{"hostPort": 1}]}, hostNetwork=True), "x", machine_name="m1")
    assert (spec.host_network, spec.hostname, spec.ports) == (True, "m1", ())


@pytest.mark.parametrize(
    ("of_pod", "own", "user", "groups"),
    [
        ({}, {}, "", ()),
        ({"runAsUser": 5, "fsGroup": 7}, {}, "5", (7,)),
        ({"runAsUser": 5, "runAsGroup": 6}, {"runAsUser": 0}, "0:6", ()),
        ({"supplementalGroups": [1, 2], "fsGroup": 2}, {"runAsGroup": 9}, "0:9", (1, 2)),
    ],
)
def test_users_and_groups(of_pod: Obj, own: Obj, user: str, groups: tuple[int, ...]) -> None:
    found = security(pod(securityContext=of_pod), {"name": "c", "securityContext": own})
    assert (found.user, tuple(found.supplemental_groups)) == (user, groups)


def test_security() -> None:
    own = {
        "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "seccompProfile": {"type": "Unconfined"},
    }
    found = security(pod(), {"name": "c", "securityContext": own})
    assert (found.add_capabilities, found.drop_capabilities) == (("NET_ADMIN",), ("ALL",))
    assert (found.read_only_root, found.allow_privilege_escalation, found.seccomp) == (True, False, "Unconfined")
    privileged = security(pod(), {"name": "c", "securityContext": {"privileged": True}})
    assert (privileged.privileged, privileged.allow_privilege_escalation, privileged.seccomp) == (
        True,
        True,
        "Unconfined",
    )


def test_root_is_refused_where_it_must_not_be() -> None:
    with pytest.raises(ConfigError, match="non-root"):
        security(pod(securityContext={"runAsNonRoot": True, "runAsUser": 0}), {"name": "c"})


def test_hostnames_are_cut() -> None:
    assert hostname_of({"metadata": {"name": "a" * 62 + "-bc"}, "spec": {}}) == "a" * 62
    assert hostname_of(pod(hostname="other")) == "other"


DNS = Dns(("9.9.9.9",), ("corp.example",), ("10.96.0.10",))


@pytest.mark.parametrize(
    ("spec", "dns", "text"),
    [
        ({"dnsPolicy": "Default"}, DNS, "search corp.example\nnameserver 9.9.9.9\n"),
        (
            {},
            DNS,
            "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\n"
            "nameserver 10.96.0.10\noptions ndots:5\n",
        ),
        ({}, Dns(("9.9.9.9",)), "nameserver 9.9.9.9\n"),
        ({"hostNetwork": True}, DNS, "search corp.example\nnameserver 9.9.9.9\n"),
        (
            {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "options": [{"name": "debug"}]}},
            DNS,
            "nameserver 1.1.1.1\noptions debug\n",
        ),
        ({"dnsPolicy": "None"}, DNS, ""),
    ],
)
def test_resolv_conf(spec: Obj, dns: Dns, text: str) -> None:
    assert resolv_conf(pod(**spec), dns) == text


def test_hosts() -> None:
    aliases = [{"ip": "10.1.1.1", "hostnames": ["a", "b"]}]
    files = etc_files(pod(hostAliases=aliases, subdomain="sub"), ("10.0.0.5",), DNS, "", "m1")
    assert "10.0.0.5\tweb.sub.shop.svc.cluster.local\tweb\n" in files["hosts"]
    assert files["hosts"].endswith("# Entries added by HostAliases.\n10.1.1.1\ta\tb\n")
    assert files["hostname"] == "web\n"
    shared = etc_files(pod(hostNetwork=True), ("192.0.2.1",), DNS, "127.0.0.1 localhost\n", "m1")
    assert "127.0.0.1 localhost" in shared["hosts"]
    assert shared["hostname"] == "m1\n"
