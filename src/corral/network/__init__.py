"""Desired network rules and their writers."""
