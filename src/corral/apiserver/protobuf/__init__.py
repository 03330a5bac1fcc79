"""Kubernetes' protobuf bodies, read into the same objects as JSON; newer kubectls send them. Answers are JSON."""

from corral.apiserver.protobuf.decoder import decode_protobuf

__all__ = ["decode_protobuf"]
