"""Refusals of the API that are no faults."""

from corral.kinds.status import StatusError


def namespace_ends(error: Exception) -> bool:
    """Whether a create was refused because its namespace is being deleted or is gone: nobody needs to hear of that."""
    if not isinstance(error, StatusError):
        return False
    ending = error.code == 403 and any(cause.reason == "NamespaceTerminating" for cause in error.causes)
    return ending or (error.code == 404 and error.kind == "namespaces")
