"""The kinds that Kubernetes 1.36 serves by default: their schemas, resources, defaults and strategies."""
