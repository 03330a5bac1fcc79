"""StatefulSets: pods with a name and storage of their own, started, replaced and ended in order."""
