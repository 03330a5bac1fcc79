"""Deployment: moves pods from one template to the next through ReplicaSets, and keeps the history."""
