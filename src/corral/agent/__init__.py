"""A machine's side: pods into containers."""
