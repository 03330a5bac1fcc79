"""The revisioned log of objects: one protocol, several implementations, one conformance suite (`corral.testing`)."""
