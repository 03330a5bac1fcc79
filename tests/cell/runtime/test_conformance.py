"""Real containers conform to the seam."""

from corral.testing.runtime_suite import RuntimeSuite


class TestConformance(RuntimeSuite):
    """With crun or runc, whichever is preferred here."""
