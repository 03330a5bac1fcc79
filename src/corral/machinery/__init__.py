"""What a controller is made of: informers, keyed queues, the runner, leases, events."""
