"""What every room may use: the clock, back-off, identifiers, errors, task groups. Standard library only."""
