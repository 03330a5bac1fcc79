"""PodGroups: their status, and an end to gangs that stay half placed."""
