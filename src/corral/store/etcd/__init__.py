"""The replicated store: etcd underneath, current state in memory."""
