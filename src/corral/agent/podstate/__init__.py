"""A pod's life as a pure function: `step(pod, observed, now)` says what to do next and what to report."""
