"""One client for everyone: over HTTP or in-process."""
