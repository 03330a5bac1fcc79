"""Pods that take more of the machine's disk than they may."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from corral.agent.eviction.evictor import sizes
from corral.agent.eviction.limits import DiskUse, beyond, is_limited
from corral.kinds.types import Obj

MIB = 1 << 20
DISK = {"name": "data", "emptyDir": {"sizeLimit": "2Mi"}}


def pod(*limits: str, **spec: Any) -> Obj:
    containers = [
        {"name": f"c{number}", "resources": {"limits": {"ephemeral-storage": limit}} if limit else {}}
        for number, limit in enumerate(limits or ("",))
    ]
    return {"metadata": {"name": "p"}, "spec": {"containers": containers, **spec}}


@pytest.mark.parametrize(
    ("subject", "limited"),
    [
        (pod(), False),
        (pod("1Mi"), True),
        (pod("", "1Mi"), True),
        (pod(volumes=[DISK]), True),
        (pod(volumes=[{"name": "data", "emptyDir": {}}]), False),
        (pod(volumes=[{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "2Mi"}}]), False),
        (pod(volumes=[{"name": "data", "emptyDir": {"sizeLimit": "0"}}]), False),
    ],
)
def test_whose_use_is_counted_at_all(subject: Obj, limited: bool) -> None:
    assert is_limited(subject) is limited


@pytest.mark.parametrize(
    ("subject", "use", "words"),
    [
        (pod(volumes=[DISK]), DiskUse({}, {"data": 2 * MIB}), ""),
        (
            pod(volumes=[DISK]),
            DiskUse({}, {"data": 2 * MIB + 1}),
            'Usage of EmptyDir volume "data" exceeds the limit "2Mi". ',
        ),
        (pod("1Mi", "2Mi"), DiskUse({"c0": MIB, "c1": 2 * MIB}), ""),
        (
            pod("1Mi", "2Mi"),
            DiskUse({"c0": 2 * MIB, "c1": 0}),
            'Container c0 exceeded its local ephemeral storage limit "1Mi". ',
        ),
        (
            pod("1Mi", "2Mi"),
            DiskUse({"c0": MIB, "c1": MIB}, {"other": 2 * MIB}),
            "Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. ",
        ),
        (pod(), DiskUse({"c0": 1 << 40}, {"data": 1 << 40}), ""),
    ],
)
def test_beyond_a_limit(subject: Obj, use: DiskUse, words: str) -> None:
    told = beyond(subject, use)
    assert (told.message if told else "") == words
    assert told is None or (told.reason, told.grace, told.disrupted) == ("Evicted", 1, False)


async def test_what_directories_take(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x" * MIB)
    (tmp_path / "with space").mkdir()
    found = await sizes([str(tmp_path / name) for name in ("a", "with space", "missing")])
    assert MIB <= found[str(tmp_path / "a")] < 2 * MIB
    assert found[str(tmp_path / "with space")] < MIB
    assert str(tmp_path / "missing") not in found
    assert await sizes([]) == {}
    assert await sizes([str(tmp_path / "a")], inodes=True) == {str(tmp_path / "a"): 2}


async def test_a_pod_beyond_its_limit_is_ended_and_its_room_is_free(rig: Any) -> None:
    rig.add_pod("hoarder", volumes=[DISK], restartPolicy="Never")
    rig.add_pod("modest", volumes=[DISK])
    await rig.settled()
    for name, size in (("hoarder", 3 * MIB), ("modest", MIB)):
        (rig.agent.layout.volume(f"u-{name}", "data") / "file").write_bytes(b"x" * size)
    await rig.advance(35)
    async with asyncio.timeout(30):  # du(1) is a process of its own
        while rig.status("hoarder")["phase"] != "Failed" or rig.agent.layout.pod("u-hoarder").exists():
            await rig.settled()
    status = rig.status("hoarder")
    assert (status["reason"], status["message"]) == (
        "Evicted",
        'Usage of EmptyDir volume "data" exceeds the limit "2Mi". ',
    )
    assert not [one for one in status["conditions"] if one["type"] == "DisruptionTarget"]
    assert rig.status("modest")["phase"] == "Running"
