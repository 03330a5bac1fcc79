"""Storage: claims are bound to volumes, volumes are made and reclaimed, neither goes while it is used."""
