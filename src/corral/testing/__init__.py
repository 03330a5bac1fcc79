"""Public helpers for tests: fakes of our seams and the suites that they must pass."""
