"""What a container can see and do."""

from dataclasses import replace
from pathlib import Path

import pytest

from corral.agent.runtime.api import Mount, RuntimeFailure, SandboxSpec, Security
from corral.agent.runtime.oci import OciRuntime
from corral.testing.runtime_suite import Pod, make_pod


@pytest.fixture
async def pod(runtime: OciRuntime, tmp_path: Path) -> Pod:
    return await make_pod(runtime, tmp_path)


async def _says(pod: Pod, script: str, security: Security | None = None, mounts: tuple[Mount, ...] = ()) -> list[str]:
    """The lines that a shell script writes in a container."""
    spec = replace(pod.spec("sh", "-c", script), security=security or Security(), mounts=mounts)
    await pod.run(spec)
    await pod.finished(spec)
    return [line.split(" F ", 1)[1] for line in pod.log(spec)]


async def test_nothing_secret_of_the_machine_is_visible(pod: Pod) -> None:
    script = (
        "cd /; ls -A root home work; ls etc/shadow etc/ssh etc/machine-id etc/ssl/private sys/firmware/* 2>/dev/null"
    )
    assert await _says(pod, script) == ["home:", "", "root:", "", "work:"]


async def test_usr_is_read_only_and_the_rest_is_not(pod: Pod) -> None:
    script = (
        "touch /usr/x 2>/dev/null || echo refused; for d in / /tmp /work /root /etc; do touch $d/x || echo $d; done"
    )
    assert await _says(pod, script) == ["refused"]


async def test_a_read_only_root(pod: Pod) -> None:
    lines = await _says(pod, "touch /x 2>/dev/null || echo refused", Security(read_only_root=True))
    assert lines == ["refused"]


async def test_the_default_powers(pod: Pod) -> None:
    script = "grep -E 'NoNewPrivs|Seccomp:|CapEff|CapBnd' /proc/self/status"
    fields = dict(line.split(":\t") for line in await _says(pod, script))
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert fields["CapEff"] == fields["CapBnd"] == "00000000a80425fb"


async def test_dropped_and_added_powers(pod: Pod) -> None:
    security = Security(drop_capabilities=("ALL",), add_capabilities=("NET_ADMIN",), allow_privilege_escalation=True)
    lines = await _says(pod, "grep -E 'NoNewPrivs|CapEff' /proc/self/status", security)
    assert dict(line.split(":\t") for line in lines) == {"NoNewPrivs": "0", "CapEff": "0000000000001000"}


async def test_a_privileged_container_has_all_and_no_filter(pod: Pod) -> None:
    lines = await _says(pod, "grep -E 'Seccomp:' /proc/self/status")
    privileged = await _says(pod, "grep -E 'Seccomp:' /proc/self/status; ls /dev | wc -l", Security(privileged=True))
    assert lines[0] == "Seccomp:\t2"
    assert privileged[0] == "Seccomp:\t0"
    assert int(privileged[1]) > 20


async def test_the_filter_refuses_what_the_kernel_would_allow(pod: Pod) -> None:
    # fanotify_init(FAN_REPORT_FID), which unprivileged processes may call.
    program = "import ctypes; print(ctypes.CDLL(None).syscall(300, 0x200, 0) >= 0)"
    assert await _says(pod, f"/usr/bin/python3 -c '{program}'") == ["False"]
    assert await _says(pod, f"/usr/bin/python3 -c '{program}'", Security(seccomp="Unconfined")) == ["True"]


async def test_no_user_namespaces_mounts_or_key_rings(pod: Pod) -> None:
    program = (
        "import ctypes, errno; c = ctypes.CDLL(None, use_errno=True); "
        "tried = dict(unshare=(272, 0x10000000), mount=(165, b'x', b'/mnt', b'tmpfs', 0, 0), keyctl=(250, 0, 0, 0),"
        " fsopen=(430, b'tmpfs', 0), setns=(308, 0, 0), bpf=(321, 0, 0, 0), userfaultfd=(323, 0)); "
        "print(*(n for n, a in tried.items() if c.syscall(*a) >= 0 or ctypes.get_errno() != errno.EPERM), 'none'); "
        "import threading; t = threading.Thread(target=print, args=('threads',)); t.start(); t.join()"
    )
    assert await _says(pod, f'/usr/bin/python3 -c "{program}"') == ["none", "threads"]


async def test_other_users_of_the_machine_cannot_enter(runtime: OciRuntime, pod: Pod, tmp_path: Path) -> None:
    """A container may leave set-user-id programs in its root, and its settings hold secrets."""
    spec = pod.spec("sh", "-c", "cp /usr/bin/id /x; chmod 4755 /x")
    await pod.run(spec)
    await pod.finished(spec)
    root = Path(runtime.root(spec.id))
    assert (root / "x").stat().st_mode & 0o4000
    closed = [parent for parent in root.parents if parent.stat().st_mode & 0o001 == 0]
    assert {"containers", spec.id} <= {parent.name for parent in closed}


async def test_kernel_settings_are_out_of_reach(pod: Pod) -> None:
    script = (
        "echo 1 2>/dev/null > /proc/sys/kernel/panic || echo refused; cat /proc/kcore | wc -c; ls /sys/firmware | wc -l"
    )
    assert await _says(pod, f"({script}) 2>/dev/null") == ["refused", "0", "0"]


async def test_another_user(pod: Pod) -> None:
    security = Security(user="1000:1001", supplemental_groups=(2000,))
    assert await _says(pod, "id -u; id -g; id -G; grep CapEff /proc/self/status", security) == [
        "1000",
        "1001",
        "1001 2000",
        "CapEff:\t0000000000000000",
    ]


async def test_root_is_refused_where_it_has_to_be(runtime: OciRuntime, pod: Pod) -> None:
    spec = replace(pod.spec("true"), security=Security(run_as_non_root=True))
    with pytest.raises(RuntimeFailure, match="container has runAsNonRoot and image will run as root") as caught:
        await runtime.create_container(spec)
    assert caught.value.reason == "CreateContainerConfigError"


async def test_mounts(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("content\n")
    mounts = (Mount(str(tmp_path / "in"), "/data/in", read_only=True), Mount(str(tmp_path), "/data"))
    script = "cat /data/in/file; touch /data/in/x 2>/dev/null || echo refused; echo written > /data/out"
    assert await _says(pod, script, mounts=mounts) == ["content", "refused"]
    assert (tmp_path / "out").read_text() == "written\n"


async def test_containers_of_a_pod_share_ipc_and_name_but_not_processes(pod: Pod) -> None:
    holder = pod.spec("sleep", "inf")
    await pod.run(holder)
    lines = await _says(pod, "hostname; echo $HOSTNAME; pgrep -c sleep; touch /dev/shm/here")
    assert lines == ["pod", "pod", "0"]
    assert await _says(pod, "ls /dev/shm") == ["here"]


async def test_processes_are_shared_where_the_pod_wants_it(runtime: OciRuntime, tmp_path: Path) -> None:
    shared = SandboxSpec("", "", "default", "pod", "pod", share_process_namespace=True)
    pod = await make_pod(runtime, tmp_path, shared)
    holder = pod.spec("sleep", "inf")
    await pod.run(holder)
    assert await _says(pod, "pgrep -c -x sleep; (sleep 1000 &) ; cat /proc/1/comm") == ["2", "sh"]
    assert holder.id in {container.id for container in await runtime.containers()}
    await runtime.remove_container(holder.id)
    assert await _says(pod, "pgrep -c -x sleep") == ["1"]


async def test_an_ephemeral_container_joins_its_targets_processes(runtime: OciRuntime, pod: Pod) -> None:
    target = pod.spec("sleep", "inf")
    await pod.run(target)
    spec = replace(pod.spec("sh", "-c", "cat /proc/1/comm"), target_pid_namespace=target.id)
    await pod.run(spec)
    await pod.finished(spec)
    assert pod.log(spec) == ["stdout F sleep"]


async def test_a_pod_on_the_machines_own_namespaces(runtime: OciRuntime, tmp_path: Path) -> None:
    host = SandboxSpec("", "", "default", "pod", "pod", host_network=True, host_pid=True, host_ipc=True)
    pod = await make_pod(runtime, tmp_path, host)
    script = "for n in net pid ipc uts; do readlink /proc/self/ns/$n; done"
    own = [str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("net", "pid", "ipc", "uts")]
    assert await _says(pod, script) == own


async def test_a_program_with_a_name_that_is_no_program(runtime: OciRuntime, pod: Pod) -> None:
    for command, words in (("/etc/passwd", "permission denied"), ("/no/such", "no such file or directory")):
        spec = pod.spec(command)
        await runtime.create_container(spec)
        with pytest.raises(RuntimeFailure, match=f'exec: "{command}".*{words}'):
            await runtime.start_container(spec.id)
