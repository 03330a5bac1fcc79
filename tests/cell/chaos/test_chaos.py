"""Half a minute of everything breaking; `python bench/chaos.py` does it for as long as you like."""

import os
from typing import Final

import pytest

from ...integration.store.etcd_cluster import installed
from .plan import Sort
from .run import run

_SEED: Final = 8066
"""Its plan has every sort of fault in 30 s; a machine stands still, and the disks of a server and of a member of etcd
are full, for longer than it takes to notice."""


@pytest.mark.timeout(240)
def test_a_cell_keeps_its_promises_while_everything_breaks() -> None:
    if os.geteuid() != 0 or not installed():
        pytest.skip("needs root, and etcd (apt-get install etcd-server)")
    report = run(_SEED, 30.0, pace=1.8, machines=3, say=print)
    print("\n".join(report.lines()))
    assert not report.violations
    assert report.figures.requests > 100
    assert {fault.sort for fault in report.history.faults} == set(Sort)
