"""Namespace: when one is deleted, everything in it goes first."""
