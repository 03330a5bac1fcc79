"""What objects of a kind look like, and what is done to them on their way in: prune, default, validate."""

from corral.kinds.schema.base import Schema
from corral.kinds.schema.build import Resolver, build

__all__ = ["Resolver", "Schema", "build"]
