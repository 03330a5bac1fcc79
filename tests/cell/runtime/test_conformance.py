"""Real containers conform to the seam, with either OCI runtime."""

import shutil

import pytest

from corral.agent.runtime.oci.engine import Choice
from corral.testing.runtime_suite import RuntimeSuite


class TestPreferred(RuntimeSuite):
    """With the OCI runtime that is preferred here."""


@pytest.mark.skipif(shutil.which("runc") is None, reason="runc is not installed")
class TestRunc(RuntimeSuite):
    """With runc."""

    @pytest.fixture
    def engine(self) -> Choice:
        return "runc"
