"""Garbage collection: objects follow their owners, in the background, in the foreground, or not at all (orphan)."""
