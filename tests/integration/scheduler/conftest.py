"""The cell that the tests of the live scheduler share."""

from collections.abc import AsyncIterator

import pytest

from corral.testing.scheduling_cell import Cell, scheduling_cell


@pytest.fixture
async def cell() -> AsyncIterator[Cell]:
    async with scheduling_cell() as cell:
        yield cell
