"""Corral: compute as a service. Hand it a program; it finds hardware and runs it."""

__version__ = "0.1.0"
