"""Ending pods when their machine runs short: who must go is decided purely (`plan`), and done by `Evictor`."""
