"""Subresources, one file each; `table.py` says which function answers which method."""
