"""Certificates of machines: who gets one, and for what."""
