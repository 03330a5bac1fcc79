"""The machine's GPUs: counted in a directory of devices, and shared out to the containers of a pod."""

from pathlib import Path
from typing import Any

import pytest

from corral.agent import gpus, machine
from corral.agent.admission import admit
from corral.agent.layout import Layout
from corral.agent.spec_builder import Place, container_spec
from corral.kinds.accelerators import DEVICES_ANNOTATION, FRACTION_ANNOTATION, GPU_MILLI
from corral.kinds.types import Obj


def pod(devices: str, *asked: dict[str, str], fraction: str = "", init: dict[str, str] | None = None) -> Obj:
    annotations = {DEVICES_ANNOTATION: devices, **({FRACTION_ANNOTATION: fraction} if fraction else {})}
    containers = [{"name": f"c{at}", "resources": {"limits": limits}} for at, limits in enumerate(asked)]
    spec: dict[str, Any] = {"containers": containers}
    if init is not None:
        spec["initContainers"] = [{"name": "init", "resources": {"limits": init}}]
    return {"metadata": {"name": "p", "namespace": "ns", "uid": "u", "annotations": annotations}, "spec": spec}


def test_devices_are_counted_and_reported(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert gpus.count(tmp_path) == 3
    assert gpus.count(tmp_path / "missing") == 0
    found = machine.read("m", (), tmp_path, devices=tmp_path)
    assert (found.capacity["nvidia.com/gpu"], found.allocatable["nvidia.com/gpu"]) == (3, 3)
    assert machine.read("m", (), tmp_path, {"nvidia.com/gpu": 8}, devices=tmp_path).capacity["nvidia.com/gpu"] == 8
    (tmp_path / "none").mkdir()
    assert "nvidia.com/gpu" not in machine.read("m", (), tmp_path, devices=tmp_path / "none").capacity


@pytest.mark.parametrize(
    ("made", "seen"),
    [
        (pod("2,5,7", {"nvidia.com/gpu": "1"}, {}, {"nvidia.com/gpu": "2"}), [(2,), (), (5, 7)]),
        (pod("3", {GPU_MILLI: "500"}, {}), [(3,), ()]),
        (pod("3", {}, {}, fraction="0.5"), [(3,), (3,)]),
        (pod("", {"nvidia.com/gpu": "1"}), [()]),
    ],
)
def test_containers_share_out_the_pods_devices(made: Obj, seen: list[tuple[int, ...]]) -> None:
    assert [gpus.seen_by(made, container) for container in made["spec"]["containers"]] == seen


def test_an_init_container_uses_what_the_others_will() -> None:
    made = pod("2,5", {"nvidia.com/gpu": "2"}, init={"nvidia.com/gpu": "1"})
    assert gpus.seen_by(made, made["spec"]["initContainers"][0]) == (2,)


def test_a_container_is_told_its_devices_and_gets_their_nodes() -> None:
    made = pod("2,5", {"nvidia.com/gpu": "2"}, {})
    place = Place("id", "box", 0, "sha", Layout(Path("/d")), [], 1 << 30)
    with_gpus, without = (container_spec(made, container, [], place) for container in made["spec"]["containers"])
    assert dict(with_gpus.env)["NVIDIA_VISIBLE_DEVICES"] == "2,5"
    assert with_gpus.devices[:3] == ("/dev/nvidia2", "/dev/nvidia5", "/dev/nvidiactl")
    assert "NVIDIA_VISIBLE_DEVICES" not in dict(without.env)
    assert without.devices == ()


def test_a_machine_with_gpus_takes_parts_of_them() -> None:
    have = {"pods": 10, "nvidia.com/gpu": 1}
    part = pod("0", {GPU_MILLI: "600"})
    assert admit(part, [], {}, have) is None
    refusal = admit(part, [part], {}, have)
    assert refusal is not None
    assert refusal.reason == f"OutOf{GPU_MILLI}"
