"""The HTTPS front: a lean lane for plain requests, aiohttp for everything that needs a full HTTP implementation."""

from corral.apiserver.http.front import HttpFront

__all__ = ["HttpFront"]
