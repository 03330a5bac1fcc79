"""Half a minute of everything breaking; `python bench/chaos.py` does it for as long as you like."""

import os

import pytest

from ...integration.store.etcd_cluster import installed
from .run import run


@pytest.mark.timeout(240)
def test_a_cell_keeps_its_promises_while_everything_breaks() -> None:
    if os.geteuid() != 0 or not installed():
        pytest.skip("needs root, and etcd (apt-get install etcd-server)")
    report = run(1, 30.0, pace=2.2, machines=3, say=print)
    print("\n".join(report.lines()))
    assert not report.violations
    assert report.figures.requests > 100
    assert len(report.history.faults) > 8
