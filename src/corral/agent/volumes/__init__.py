"""Volumes: one file a type. `manager` makes a pod's volumes ready, keeps them fresh and takes them down."""
