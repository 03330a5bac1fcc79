"""Taints that end pods: who must leave a machine, and when."""
