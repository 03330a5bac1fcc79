"""From the API server to an agent: logs and files streamed, exec, attach and port forwarding piped as raw bytes."""

from corral.apiserver.streams.dialer import NodeDialer

__all__ = ["NodeDialer"]
