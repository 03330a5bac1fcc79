"""A fleet on one machine: `corral up --machines N`, and the failures that can be played on it."""
