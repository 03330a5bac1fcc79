"""How GPUs are asked for, and how it is written down which they are."""

import pytest

from corral.kinds.accelerators import (
    GPU_MILLI,
    GpuAsk,
    device_kind,
    devices_text,
    gpu_ask,
    gpu_fraction,
    read_devices,
    with_gpu_milli,
)
from corral.kinds.podspec import pod_requests
from corral.kinds.types import Obj
from corral.testing.scheduling import pod


def annotated(name: str, value: str) -> Obj:
    made = pod("p")
    made["metadata"]["annotations"] = {name: value}
    return made


@pytest.mark.parametrize(
    ("requests", "ask"),
    [
        ({"cpu": 100}, None),
        ({"nvidia.com/gpu": 0}, None),
        ({"nvidia.com/gpu": 2}, GpuAsk("nvidia.com/gpu", 2, 0)),
        ({"amd.com/gpu": 1}, GpuAsk("amd.com/gpu", 1, 0)),
        ({GPU_MILLI: 250}, GpuAsk("", 0, 250)),
        ({GPU_MILLI: 1000}, GpuAsk("", 0, 1000)),
    ],
)
def test_what_is_asked_for(requests: dict[str, int], ask: GpuAsk | None) -> None:
    assert gpu_ask(requests) == ask


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ({GPU_MILLI: 1500}, "corral.dev/gpu-milli: 1500: at most 1000 .*nvidia.com/gpu"),
        ({GPU_MILLI: 500, "nvidia.com/gpu": 1}, "nvidia.com/gpu, corral.dev/gpu-milli: .* not for both"),
        ({"amd.com/gpu": 1, "nvidia.com/gpu": 1}, "nvidia.com/gpu, amd.com/gpu: .* one vendor"),
    ],
)
def test_nonsense_is_refused_by_name(requests: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gpu_ask(requests)


def test_the_annotation_of_kai_is_the_same_as_asking_for_thousandths() -> None:
    assert gpu_fraction(annotated("gpu-fraction", "0.5")) == 500
    assert pod_requests(annotated("gpu-fraction", "0.125"))[GPU_MILLI] == 125
    assert gpu_fraction(pod("p")) == 0


@pytest.mark.parametrize("text", ["0", "1.5", "-0.5", "half", ""])
def test_an_annotation_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"annotation gpu-fraction: .* above 0 and at most 1"):
        gpu_fraction(annotated("gpu-fraction", text))


@pytest.mark.parametrize(
    ("text", "devices"),
    [("3", (3,)), ("0,1", (0, 1)), ("1, 0", (0, 1)), ("", ()), ("a", ()), ("-1", ()), ("99999", ()), ("2000", ())],
)
def test_devices_are_read_back(text: str, devices: tuple[int, ...]) -> None:
    assert read_devices(annotated("corral.dev/gpu-devices", text)) == devices


def test_devices_are_written_as_they_are_read() -> None:
    assert devices_text((0, 1)) == "0,1"


def test_a_machine_has_a_thousand_thousandths_for_each_device() -> None:
    assert with_gpu_milli({"cpu": 1, "nvidia.com/gpu": 8})[GPU_MILLI] == 8000
    assert with_gpu_milli({"cpu": 1}) == {"cpu": 1}
    assert device_kind({"amd.com/gpu": 2}) == ("amd.com/gpu", 2)
    assert device_kind({"amd.com/gpu": 2, "nvidia.com/gpu": 1}) == ("nvidia.com/gpu", 1)
    assert device_kind({"cpu": 4, "nvidia.com/gpu": 0}) == ("", 0)
