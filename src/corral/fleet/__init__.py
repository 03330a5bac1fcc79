"""Machines as cattle: what is done about one that is in trouble, and who is told."""
