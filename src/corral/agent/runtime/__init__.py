"""Containers and images on this machine: the seam (`api`), and its implementations."""
