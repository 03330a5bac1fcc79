"""Which subnets the pods of each machine have."""
