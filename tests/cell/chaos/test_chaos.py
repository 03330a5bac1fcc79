"""Half a minute of everything breaking; `python bench/chaos.py` does it for as long as you like."""

import os
from typing import Final

import pytest

from ...integration.store.etcd_cluster import installed
from .plan import Sort
from .run import run

_SEED: Final = 16352
"""Its plan has every sort of fault in 30 s; a server is killed, and starts again, while a machine's disk is full."""


@pytest.mark.timeout(240)
def test_a_cell_keeps_its_promises_while_everything_breaks() -> None:
    if os.geteuid() != 0 or not installed():
        pytest.skip("needs root, and etcd (apt-get install etcd-server)")
    report = run(_SEED, 30.0, pace=2.2, machines=3, say=print)
    print("\n".join(report.lines()))
    assert not report.violations
    assert report.figures.requests > 100
    assert {fault.sort for fault in report.history.faults} == set(Sort)
