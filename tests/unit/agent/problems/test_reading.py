"""Reading the machine: on plain directories, on the kernel's own formats, on pipes."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.agent.mounts import parse as parse_mounts
from corral.agent.problems import disks
from corral.agent.problems.conntrack import ConntrackSource
from corral.agent.problems.devices import Devices, holding
from corral.agent.problems.disks import DiskSource, disk_error, fails
from corral.agent.problems.filesystem import FilesystemSource, Reading, lost_mounts
from corral.agent.problems.kernel_log import KernelLog, parse
from corral.agent.problems.oom import OomSource, victim
from corral.agent.problems.pressure import PressureSource, held
from corral.agent.problems.runtime import RuntimeSource
from corral.agent.problems.skew import Offset, SkewSource
from corral.agent.runtime.api import RuntimeFailure
from corral.testing.clock import FakeClock
from corral.testing.fake_runtime import FakeRuntime

KILLED = "Out of memory: Killed process 42 (java) total-vm:1kB, anon-rss:1kB, file-rss:0kB, UID:0 pgtables:1kB"
IO = "I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2"


# The kernel's log.


class Kmsg:
    """/dev/kmsg as a packet pipe: one record a read."""

    def __init__(self) -> None:
        reader, self._writer = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
        self.path = Path(f"/proc/self/fd/{reader}")
        self._reader = reader

    def say(self, text: str, *, facility: int = 0, seconds: float = 100.0) -> None:
        record = f"{facility << 3 | 4},1,{int(seconds * 1e6)},-;{text}\n SUBSYSTEM=block\n"
        os.write(self._writer, record.encode())

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


@pytest.fixture
def kmsg() -> Iterator[Kmsg]:
    made = Kmsg()
    yield made
    made.close()


async def test_what_the_kernel_says_is_read_once_with_its_age(kmsg: Kmsg) -> None:
    source = OomSource(KernelLog(kmsg.path, lambda: 160.0))
    kmsg.say("systemd started")
    kmsg.say(KILLED)
    assert await source.read() == ((60.0, "java (42)"),)
    assert await source.read() == ()
    kmsg.say(KILLED, seconds=159.0)
    assert await source.read() == ((1.0, "java (42)"),)
    source.close()


async def test_what_programs_write_there_is_not_believed(kmsg: Kmsg) -> None:
    source = OomSource(KernelLog(kmsg.path, lambda: 100.0))
    kmsg.say(KILLED, facility=1)
    assert await source.read() == ()
    source.close()


async def test_a_log_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await OomSource(KernelLog(tmp_path / "none")).read()


@given(st.binary(max_size=200))
def test_no_record_breaks_the_reader(raw: bytes) -> None:
    record = parse(raw)
    assert record is None or record.seconds >= 0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (KILLED, "java (42)"),
        ("Out of memory: Kill process 7 (a b) score 12 or sacrifice child", "a b (7)"),
        ("Memory cgroup out of memory: Killed process 10804 (python3) total-vm:209308kB", None),
        ("oom_reaper: reaped process 42 (java), now anon-rss:0kB", None),
    ],
)
def test_kills_for_want_of_the_machines_memory(text: str, name: str | None) -> None:
    assert victim(text) == name


@pytest.mark.parametrize(
    ("text", "disk", "grave"),
    [
        (IO, "sda", False),
        ("blk_update_request: I/O error, dev nvme0n1, sector 7", "nvme0n1", False),
        ("critical medium error, dev sdf, sector 23528 op 0x0:(READ)", "sdf", True),
        ("Buffer I/O error on dev dm-0, logical block 5, lost async page write", "dm-0", False),
        ("nvme0n1: I/O Cmd(0x2) @ LBA 512, 8 blocks, I/O Error (sct 0x2 / sc 0x81) MORE", "nvme0n1", False),
        ("nvme nvme0: I/O tag 12 (100c) opcode 0x2 QID 3 timeout, aborting", "nvme0", False),
        ("EXT4-fs error (device sda2): ext4_find_entry:1616: inode #2: comm ls: reading lblock 0", "sda2", True),
        ("XFS (sdb1): Metadata corruption detected at xfs_agi_read_verify", "sdb1", True),
        ("BTRFS error (device sdc1): bdev /dev/sdc1 errs: wr 0, rd 3, flush 0, corrupt 0, gen 0", "sdc1", True),
        ("I/O error, dev loop3, sector 8 op 0x1:(WRITE)", None, False),
        ("I/O error, dev sr0, sector 0 op 0x0:(READ)", None, False),
        ("critical target error, dev sda, sector 0 op 0x3:(DISCARD)", None, False),
        ("EXT4-fs (sda1): mounted filesystem with ordered data mode", None, False),
        ("BTRFS error (device sdc1): open_ctree failed", None, False),
    ],
)
def test_errors_of_disks(text: str, disk: str | None, grave: bool) -> None:
    found = disk_error(text)
    assert (found and (found.disk, found.grave)) == ((disk, grave) if disk else None)


# Disks that speak for themselves.


async def test_disks_are_asked_now_and_then(kmsg: Kmsg, tmp_path: Path) -> None:
    (tmp_path / "sda" / "device").mkdir(parents=True)
    (tmp_path / "sdb" / "device").mkdir(parents=True)
    (tmp_path / "loop0" / "device").mkdir(parents=True)
    (tmp_path / "dm-0").mkdir()
    asked = tmp_path / "asked"
    smartctl = tmp_path / "smartctl"
    # The form of smartctl 7.3; a disk that fails has bit 3 in the exit status.
    smartctl.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {asked}\n'
        'case "$5" in /dev/sda) ok=true;; *) ok=false;; esac\n'
        'echo "{\\"smart_status\\": {\\"passed\\": $ok}, \\"smartctl\\": {\\"exit_status\\": 8}}"\n'
        "exit 8\n"
    )
    smartctl.chmod(0o755)
    clock = FakeClock()
    log, everything = KernelLog(kmsg.path, lambda: 100.0), Devices(tmp_path, system=tmp_path / "unknown")
    source = DiskSource(log, clock, everything, disks=tmp_path, find=lambda: str(smartctl))
    assert (await source.read()).failing == (), "not at once"
    await clock.advance(60)
    assert (await source.read()).failing == ("sdb",)
    kmsg.say(IO)
    reading = await source.read()
    assert reading == disks.Reading(((0.0, disks.DiskError("sda", IO, False)),), ("sdb",))
    assert asked.read_text().splitlines() == [f"--json -H -n standby /dev/{name}" for name in ("sda", "sdb")]
    await clock.advance(1800)
    await source.read()
    assert len(asked.read_text().splitlines()) == 4
    source.close()


@pytest.mark.parametrize(
    ("report", "failing"),
    [
        (b'{"smart_status": {"passed": false}}', True),
        (b'{"smart_status": {"passed": true, "nvme": {"value": 0}}}', False),
        (b'{"smartctl": {"exit_status": 1, "messages": [{"string": "Unable to detect device type"}]}}', False),
        (b"smartctl: not found", False),
        (b"[]", False),
        (b'{"smart_status": "?"}', False),
    ],
)
def test_what_smartctl_says(report: bytes, failing: bool) -> None:
    assert fails(report) is failing


# File systems.

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 22 8:17 / /data rw,noatime - xfs /dev/sdb1 ro,attr2
31 22 8:17 /x /data/x rw,noatime - xfs /dev/sdb1 ro,attr2
32 22 8:33 / /backup ro,relatime - ext4 /dev/sdc1 ro
33 22 7:0 / /snap rw,relatime - squashfs /dev/loop0 ro
35 22 8:49 / /logs rw - ext4 /dev/sdd1 rw,errors=remount-ro,emergency_ro
34 22 0:5 / /merged rw - overlay overlay ro,lowerdir=/a
broken line
"""


def test_mounts_that_the_kernel_took_away() -> None:
    assert lost_mounts(parse_mounts(MOUNTS)) == ("/data (/dev/sdb1)", "/logs (/dev/sdd1)")


def machine(tmp_path: Path, *, container: str = "") -> Devices:
    """Two disks, one of them below LVM, of which the agent is on the first."""
    for pid, table in (("self", MOUNTS), ("7", container)):
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "mountinfo").write_text(table)
    blocks = tmp_path / "sys/dev/block"
    for number, name, part in (("8:1", "sda", "sda1"), ("8:17", "sdb", "sdb1"), ("8:49", "sdd", "sdd1")):
        entry = tmp_path / "sys/devices" / name / part
        entry.mkdir(parents=True)
        (entry / "partition").write_text("1\n")
        blocks.mkdir(parents=True, exist_ok=True)
        (blocks / number).symlink_to(entry)
    below = tmp_path / "sys/devices/dm-0/slaves"
    below.mkdir(parents=True)
    (below / "nvme0n1").symlink_to(tmp_path / "sys/devices/nvme0n1")
    (tmp_path / "sys/devices/nvme0n1").mkdir()
    (blocks / "253:0").symlink_to(tmp_path / "sys/devices/dm-0")
    return Devices(Path("/var/lib/agent"), lambda: [7, 8], tmp_path / "proc", tmp_path / "sys")


def test_only_what_is_used_here_counts(tmp_path: Path) -> None:
    devices = machine(tmp_path)
    assert lost_mounts(devices.mounts()) == ()
    assert devices.disks() == frozenset({"sda", "sda1"})


def test_what_a_container_sees_is_used(tmp_path: Path) -> None:
    bound = "90 89 8:17 /x /volume rw,noatime - xfs /dev/sdb1 ro,attr2\n"
    devices = machine(tmp_path, container=bound)
    assert lost_mounts(devices.mounts()) == ("/data (/dev/sdb1)",)
    assert devices.disks() == frozenset({"sda", "sda1", "sdb", "sdb1"})


def test_a_logical_volume_is_known_by_its_disks(tmp_path: Path) -> None:
    devices = machine(tmp_path)
    table = MOUNTS.replace("8:1 / / rw", "253:0 / / rw")
    (tmp_path / "proc/self/mountinfo").write_text(table)
    assert devices.disks() == frozenset({"dm-0", "nvme0n1", "nvme0"})


def test_an_agent_on_an_unknown_disk_believes_everything(tmp_path: Path) -> None:
    devices = machine(tmp_path)
    (tmp_path / "proc/self/mountinfo").write_text("1 0 0:5 / / rw - overlay overlay rw\n")
    assert devices.disks() is None


def test_the_last_mount_at_a_place_holds_what_is_below() -> None:
    mounts = parse_mounts(MOUNTS + "40 22 8:65 / /data rw - ext4 /dev/sde1 rw\n")
    places = {path: found.source for path in ("/data/y", "/database") if (found := holding(mounts, path))}
    assert places == {"/data/y": "/dev/sde1", "/database": "/dev/sda1"}


def refuse(code: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        raise OSError(code, os.strerror(code), str(path))

    return write


@pytest.mark.parametrize(("code", "bad"), [(errno.EROFS, True), (errno.EIO, True), (errno.ENOSPC, False)])
async def test_writing_in_the_agents_directory(tmp_path: Path, code: int, bad: bool) -> None:
    reading = await FilesystemSource(tmp_path, Devices(tmp_path), refuse(code)).read()
    assert reading.bad is bad
    assert not bad or str(tmp_path) in reading.error


async def test_a_directory_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    assert await FilesystemSource(tmp_path, Devices(tmp_path)).read() == Reading()
    assert not list(tmp_path.iterdir())


@pytest.fixture
def broken_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on an ext4 file system that the kernel has given up."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("breaking a file system needs root and mkfs.ext4")
    image, directory = tmp_path / "image", tmp_path / "disk"
    image.touch()
    os.truncate(image, 4 << 20)
    directory.mkdir()
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mounted = subprocess.run(["mount", "-o", "loop,errors=remount-ro", str(image), str(directory)], check=False)
    if mounted.returncode:
        pytest.skip("this machine mounts no ext4 from a file")
    try:
        (directory / "before").touch()
        found = subprocess.run(["findmnt", "-no", "SOURCE", str(directory)], check=True, capture_output=True, text=True)
        Path("/sys/fs/ext4", Path(found.stdout.strip()).name, "trigger_fs_error").write_text("1")
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


async def test_a_file_system_that_the_kernel_gave_up(broken_disk: Path) -> None:
    reading = await FilesystemSource(broken_disk, Devices(broken_disk)).read()
    assert "Read-only file system" in reading.error
    assert any(str(broken_disk) in lost for lost in reading.lost), "seen from elsewhere, too"


# The rest.


def test_memory_that_cannot_be_given_back_by_both_versions(tmp_path: Path) -> None:
    one, two = tmp_path / "v1", tmp_path / "v2"
    for group, used, inactive in (
        (one, "memory.usage_in_bytes", "total_inactive_file"),
        (two, "memory.current", "inactive_file"),
    ):
        group.mkdir()
        (group / used).write_text("1000\n")
        (group / "memory.stat").write_text(f"cache 7\n{inactive} 200\n{inactive.replace('inactive', 'active')} 100\n")
    assert (held(one), held(two), held(tmp_path)) == (700, 700, 0)


async def test_the_machine_itself_can_be_read(tmp_path: Path) -> None:
    reading = await PressureSource(tmp_path, 1 << 50, [str(tmp_path)]).read()
    assert 0 < reading.disk_available <= reading.disk
    assert reading.memory_available > 0
    assert 0 < reading.processes < reading.process_limit
    assert reading.pods_over == 0


async def test_conntrack_where_it_is_used_and_where_it_is_not(tmp_path: Path) -> None:
    assert await ConntrackSource(tmp_path).read() == (0, 0)
    (tmp_path / "nf_conntrack_count").write_text("540\n")
    (tmp_path / "nf_conntrack_max").write_text("262144\n")
    assert await ConntrackSource(tmp_path).read() == (540, 262144)


async def test_the_runtimes_own_words(tmp_path: Path) -> None:
    runtime = FakeRuntime(FakeClock(), tmp_path)
    source = RuntimeSource(runtime)
    assert await source.read() == ""
    assert runtime.calls == []
    assert await source.read() == ""
    assert runtime.calls == [("check", "")]
    runtime.fail("check", RuntimeFailure("RuntimeNotReady", "crun does not work"))
    assert await source.read() == "crun does not work"
    runtime.fail("check", FileNotFoundError(2, "No such file", "crun"))
    assert "No such file" in await source.read()
    runtime.stop_all()


async def test_a_clock_that_jumps_during_the_question_says_nothing() -> None:
    clock = FakeClock()

    async def ask() -> str:
        return "Thu, 01 Jan 2026 00:00:00 GMT"

    now = clock.now().timestamp() - 1767225600.0
    assert await SkewSource(ask, clock).read() == Offset(now - 1.0, now)

    async def nothing() -> str:
        return ""

    assert await SkewSource(nothing, clock).read() == Offset(0.0, 0.0)

    async def jumps() -> str:
        clock.jump(30.0)
        return "Thu, 01 Jan 2026 00:00:00 GMT"

    assert await SkewSource(jumps, clock).read() is None
