"""PodDisruptionBudgets: how many pods may be made to go right now."""
