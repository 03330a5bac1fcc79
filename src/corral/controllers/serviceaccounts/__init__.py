"""What each namespace gets: the service account `default` and the ConfigMap with the cell's authority."""
