"""Machines that fall silent: their conditions and taints."""
