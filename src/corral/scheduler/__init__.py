"""Which machine runs which pod, and why not the others."""
