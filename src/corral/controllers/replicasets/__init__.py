"""ReplicaSet: as many pods of a template as asked for."""
