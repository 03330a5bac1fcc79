"""Server-side apply and field ownership.

`apply` merges a configuration into an object; `track` records who changed what in a plain write. Both keep
`metadata.managedFields` as Kubernetes does, so that kubectl, GitOps tools and controllers can share objects.
"""

from corral.kinds.apply.nodes import ApplySchema
from corral.kinds.apply.server_side import apply
from corral.kinds.apply.track import track

__all__ = ["ApplySchema", "apply", "track"]
