"""Pod garbage collection: pods that nobody ends any more."""
