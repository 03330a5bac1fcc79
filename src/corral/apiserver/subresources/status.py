"""`status` and other subresources that are a part of the object with its own permission."""

from copy import deepcopy

from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.verbs.get import get
from corral.apiserver.verbs.patch import patch
from corral.apiserver.verbs.update import update
from corral.apiserver.writing import Prepare
from corral.kinds.resources import PODS
from corral.kinds.types import Obj


def only_ephemeral_containers(obj: Obj, old: Obj) -> None:
    """The old object with the new one's ephemeral containers."""
    wanted = (obj.get("spec") or {}).get("ephemeralContainers")
    _become(obj, old)
    if wanted is not None:
        obj["spec"]["ephemeralContainers"] = wanted


def only_resources(obj: Obj, old: Obj) -> None:
    """The old pod with the new one's container resources (`resize`)."""
    wanted = {
        container.get("name"): container
        for field in ("initContainers", "containers")
        for container in (obj.get("spec") or {}).get(field) or ()
    }
    _become(obj, old)
    changed = False
    for field in ("initContainers", "containers"):
        for container in obj["spec"].get(field) or ():
            given = wanted.get(container["name"]) or {}
            for part in ("resources", "resizePolicy"):
                if part in given and given[part] != container.get(part):
                    container[part] = given[part]
                    changed = True
    if changed and "generation" in obj["metadata"]:
        obj["metadata"]["generation"] += 1


def only_approval(obj: Obj, old: Obj) -> None:
    """The old request with the new one's conditions (`approval` of a CertificateSigningRequest)."""
    wanted = (obj.get("status") or {}).get("conditions")
    _become(obj, old)
    obj["status"] = {**(obj.get("status") or {}), "conditions": wanted or []}


def only_finalizers_of_spec(obj: Obj, old: Obj) -> None:
    """The old namespace with the new one's `spec.finalizers` (`finalize`)."""
    wanted = (obj.get("spec") or {}).get("finalizers") or []
    _become(obj, old)
    obj["spec"] = {**(obj.get("spec") or {}), "finalizers": wanted}


def _become(obj: Obj, old: Obj) -> None:
    managed = obj["metadata"].get("managedFields")
    obj.clear()
    obj.update(deepcopy(old))
    if managed is not None:
        obj["metadata"]["managedFields"] = managed


_PREPARE: dict[str, Prepare] = {
    "approval": only_approval,
    "ephemeralcontainers": only_ephemeral_containers,
    "finalize": only_finalizers_of_spec,
    "resize": only_resources,
}


def prepare_for(ctx: Context) -> Prepare:
    """What a write through this subresource may touch."""
    if ctx.subresource == "status":
        return ctx.kind.strategy.prepare_status
    if ctx.subresource in ("ephemeralcontainers", "resize") and ctx.kind.resource != PODS:
        raise LookupError(f"{ctx.plural} has no subresource {ctx.subresource}")
    return _PREPARE[ctx.subresource]


async def read(core: Core, ctx: Context) -> Reply:
    """The whole object."""
    return get(core, ctx)


async def replace(core: Core, ctx: Context) -> Reply:
    """Replace the part. Raises StatusError."""
    return await update(core, ctx, prepare_for(ctx))


async def change(core: Core, ctx: Context) -> Reply:
    """Patch the part. Raises StatusError."""
    return await patch(core, ctx, prepare_for(ctx))
