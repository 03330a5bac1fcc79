"""What a machine's line says."""

from typing import Any

import pytest

from corral.cli.status import machine, row
from corral.kinds.types import Obj


def node(*conditions: tuple[str, str], **spec: Any) -> Obj:
    listed = [{"type": kind, "status": status} for kind, status in conditions]
    metadata = {"name": "m1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": spec, "status": {"conditions": listed}}


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        (node(("Ready", "True"), ("MemoryPressure", "False")), "Ready"),
        (node(("Ready", "Unknown"), ("MemoryPressure", "Unknown")), "NotReady"),
        (node(("ReadonlyFilesystem", "True"), ("Ready", "True")), "Ready,ReadonlyFilesystem"),
        (node(("Ready", "True"), ("DiskPressure", "True"), unschedulable=True), "Ready,Cordoned,DiskPressure"),
        (
            node(
                ("Ready", "True"),
                ("Quarantined", "True"),
                taints=[{"key": "corral.dev/quarantine", "effect": "NoSchedule"}],
            ),
            "Ready,Quarantined",
        ),
    ],
)
def test_its_state_names_what_is_wrong(subject: Obj, said: str) -> None:
    assert row(machine(subject, []))[1] == said
