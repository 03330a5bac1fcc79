"""Connections as raw bytes: taking them over from HTTP after an upgrade, on either side. Knows nothing of objects."""
