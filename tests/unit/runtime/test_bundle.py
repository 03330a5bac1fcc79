"""config.json from specs."""

from dataclasses import replace

import pytest

from corral.agent.runtime.api import ContainerSpec, Image, Mount, Resources, RuntimeFailure, SandboxSpec, Security
from corral.agent.runtime.oci import bundle
from corral.agent.runtime.oci.users import Identity

HOST = bundle.Host(cgroups="v2", capabilities=frozenset(bundle.ALL_CAPABILITIES), open_files=524288)
IMAGE = Image(
    "sha256:1",
    (),
    1,
    {"Entrypoint": ["/entry"], "Cmd": ["a", "b"], "Env": ["PATH=/image", "A=1", "B=2"], "WorkingDir": "/srv"},
)
SPEC = ContainerSpec("c", "s", "main", 0, "image")
POD = SandboxSpec("s", "u", "default", "pod", "pod-host")
AROUND = bundle.Surroundings(POD, "/root-fs", {"network": "/ns/net", "ipc": "/ns/ipc"}, "/shm", "/corral-x/pod-u/c")
NOBODY = Identity(1000, 1000, (1000, 5), "/home/app")


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ((), (), ["/entry", "a", "b"]),
        ((), ("x",), ["/entry", "x"]),
        (("run",), (), ["run"]),
        (("run",), ("x",), ["run", "x"]),
    ],
)
def test_command_and_args_follow_kubernetes(
    command: tuple[str, ...], args: tuple[str, ...], expected: list[str]
) -> None:
    assert bundle.arguments(replace(SPEC, command=command, args=args), IMAGE) == expected


def test_nothing_to_run_is_said() -> None:
    with pytest.raises(RuntimeFailure, match="neither it nor image image has a command"):
        bundle.arguments(SPEC, replace(IMAGE, config={}))


def test_the_containers_variables_win() -> None:
    spec = replace(SPEC, env=(("B", "3"), ("C", "x=y")), tty=True)
    made = bundle.environment(spec, IMAGE, "pod-host", "/home/app")
    assert made == ["PATH=/image", "HOSTNAME=pod-host", "TERM=xterm", "A=1", "B=3", "HOME=/home/app", "C=x=y"]


def test_capabilities() -> None:
    every = frozenset(bundle.ALL_CAPABILITIES)
    assert set(bundle.capabilities(Security(), every)) == set(bundle.DEFAULT_CAPABILITIES)
    assert bundle.capabilities(Security(drop_capabilities=("ALL",), add_capabilities=("net_admin",)), every) == [
        "CAP_NET_ADMIN"
    ]
    without = bundle.capabilities(Security(drop_capabilities=("MKNOD", "CAP_NET_RAW")), every)
    assert set(bundle.DEFAULT_CAPABILITIES) - set(without) == {"CAP_MKNOD", "CAP_NET_RAW"}
    assert bundle.capabilities(Security(add_capabilities=("ALL",)), every) == list(bundle.ALL_CAPABILITIES)
    assert bundle.capabilities(Security(privileged=True), frozenset({"CAP_CHOWN"})) == ["CAP_CHOWN"]
    assert bundle.capabilities(Security(add_capabilities=("SYS_RESOURCE",)), every - {"CAP_SYS_RESOURCE"}) == (
        bundle.capabilities(Security(), every)
    )


def test_the_defaults_are_safe() -> None:
    made = bundle.config(SPEC, IMAGE, AROUND, NOBODY, HOST)
    assert made["process"]["noNewPrivileges"]
    assert made["process"]["user"] == {"uid": 1000, "gid": 1000, "additionalGids": [1000, 5]}
    assert made["process"]["cwd"] == "/srv"
    assert made["linux"]["resources"]["devices"] == [{"allow": False, "access": "rwm"}]
    assert "/proc/kcore" in made["linux"]["maskedPaths"]
    assert "/proc/sys" in made["linux"]["readonlyPaths"]
    assert "devices" not in made["linux"]
    options = {mount["destination"]: mount["options"] for mount in made["mounts"]}
    assert "ro" in options["/sys"]
    assert "ro" in options["/sys/fs/cgroup"]


def test_privileged_lifts_them() -> None:
    device = {"path": "/dev/vda", "type": "b", "major": 254, "minor": 0}
    made = bundle.config(
        replace(SPEC, security=Security(privileged=True)), IMAGE, AROUND, NOBODY, replace(HOST, devices=(device,))
    )
    assert not made["process"]["noNewPrivileges"]
    assert made["linux"]["devices"] == [device]
    assert "maskedPaths" not in made["linux"]
    assert "rw" in next(mount for mount in made["mounts"] if mount["destination"] == "/sys")["options"]


def test_namespaces_are_joined_by_path_and_the_rest_is_its_own() -> None:
    made = bundle.config(SPEC, IMAGE, AROUND, NOBODY, HOST)["linux"]["namespaces"]
    assert made == [
        {"type": "mount"},
        {"type": "cgroup"},
        {"type": "pid"},
        {"type": "network", "path": "/ns/net"},
        {"type": "ipc", "path": "/ns/ipc"},
    ]
    shared = replace(AROUND, namespaces={"pid": "/ns/pid"})
    assert bundle.config(SPEC, IMAGE, shared, NOBODY, replace(HOST, cgroups="v1"))["linux"]["namespaces"] == [
        {"type": "mount"},
        {"type": "pid", "path": "/ns/pid"},
    ]
    of_the_host = replace(AROUND, sandbox=replace(POD, host_pid=True), namespaces={})
    assert bundle.config(SPEC, IMAGE, of_the_host, NOBODY, HOST)["linux"]["namespaces"] == [
        {"type": "mount"},
        {"type": "cgroup"},
    ]


def test_mounts_come_outermost_first_and_replace_the_runtimes() -> None:
    spec = replace(
        SPEC,
        mounts=(
            Mount("/a", "/data/deep", read_only=True),
            Mount("/b", "/data"),
            Mount("/c", "/dev/shm", propagation="rslave"),
        ),
    )
    made = bundle.config(spec, IMAGE, AROUND, NOBODY, HOST)
    destinations = [mount["destination"] for mount in made["mounts"]]
    assert destinations.index("/data") < destinations.index("/data/deep")
    assert destinations.count("/dev/shm") == 1
    assert made["linux"]["rootfsPropagation"] == "slave"


def test_resources() -> None:
    v1 = replace(HOST, cgroups="v1")
    assert bundle.resources(Resources(), v1) == {"cpu": {"shares": 2}}
    assert bundle.resources(Resources(), HOST)["unified"] == {"memory.oom.group": "1"}
    limits = Resources(cpu_shares=512, cpu_quota=50_000, memory_limit=1 << 20, pids_limit=9, cpuset="0-1")
    assert bundle.resources(limits, replace(v1, swap_accounting=True)) == {
        "cpu": {"shares": 512, "period": 100_000, "quota": 50_000, "cpus": "0-1"},
        "memory": {"limit": 1 << 20, "swap": 1 << 20},
        "pids": {"limit": 9},
    }


def test_what_the_agent_may_not_give_is_clamped() -> None:
    spec = replace(SPEC, resources=Resources(oom_score_adj=-997))
    weak = replace(HOST, lowest_oom_score_adj=0, open_files=4096)
    made = bundle.config(spec, IMAGE, AROUND, NOBODY, weak)["process"]
    assert made["oomScoreAdj"] == 0
    assert made["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 4096, "hard": 4096}]
    assert bundle.config(spec, IMAGE, AROUND, NOBODY, HOST)["process"]["oomScoreAdj"] == -997


def test_named_devices_are_let_in_and_no_others() -> None:
    device = {"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0, "fileMode": 0o666, "uid": 0, "gid": 0}
    made = bundle.config(SPEC, IMAGE, AROUND, NOBODY, replace(HOST, devices=(device,)))["linux"]
    assert made["devices"] == [device]
    assert made["resources"]["devices"] == [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 195, "minor": 0, "access": "rw"},
    ]
    assert "/proc/kcore" in made["maskedPaths"]
