"""Composition roots: the only place that reads configuration and builds objects."""
