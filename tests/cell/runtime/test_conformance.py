"""Real containers conform to the seam, with either OCI runtime."""

import shutil
from dataclasses import replace
from typing import Any

import pytest

from corral.agent.runtime.api import RuntimeFailure
from corral.agent.runtime.oci.engine import Choice
from corral.testing.runtime_suite import RuntimeSuite


class TestPreferred(RuntimeSuite):
    """With the OCI runtime that is preferred here."""

    async def test_a_program_that_no_longer_works_is_told(self, runtime: Any) -> None:
        runtime._engine = replace(runtime._engine, path="/bin/false")
        with pytest.raises(RuntimeFailure, match="/bin/false does not work"):
            await runtime.check()
        runtime._engine = replace(runtime._engine, path="/nowhere/crun")
        with pytest.raises(FileNotFoundError):
            await runtime.check()


@pytest.mark.skipif(shutil.which("runc") is None, reason="runc is not installed")
class TestRunc(RuntimeSuite):
    """With runc."""

    @pytest.fixture
    def engine(self) -> Choice:
        return "runc"
