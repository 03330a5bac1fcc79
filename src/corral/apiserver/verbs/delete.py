"""Remove an object: at once, after a grace period (pods), or when its last finalizer goes."""

from datetime import timedelta
from typing import NamedTuple

from corral.apiserver import metadata as meta
from corral.apiserver.admission.api import Review
from corral.apiserver.answers import object_reply, success, value_reply
from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.options import DeleteOptions, delete_options
from corral.apiserver.rendering import Rendered, encode
from corral.apiserver.writing import TRIES, encode_with_revision, is_held, to_stored
from corral.base.clock import parse_rfc3339, rfc3339
from corral.kinds.podspec import is_terminal
from corral.kinds.resources import NAMESPACES, PODS
from corral.kinds.status import modified
from corral.kinds.types import Obj
from corral.store.protocol import Conflict

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
_DEFAULT_GRACE = 30


class Removal(NamedTuple):
    """What a delete did: the object as it is or was, and whether it is gone."""

    rendered: Rendered
    gone: bool


async def delete(core: Core, ctx: Context) -> Reply:
    """Remove the object, or mark it as being removed.

    Raises:
        StatusError: 400, 403, 404, 409.
    """
    options = delete_options(ctx.query, ctx.call.body, ctx.call.content_type)
    removal = await remove(core, ctx, options)
    if removal.gone and ctx.kind.resource != PODS:
        return value_reply(success(ctx, removal.rendered.obj), ctx.format)
    return object_reply(core, ctx, removal.rendered)


async def remove(core: Core, ctx: Context, options: DeleteOptions) -> Removal:
    """As `delete`, for other verbs too."""
    for _ in range(TRIES):
        entry = core.entry(ctx.kind, ctx.namespace, ctx.name)
        rendered = core.render(ctx.kind, entry)
        old = rendered.obj
        meta.check_uid(ctx, options.uid, old["metadata"].get("uid", ""))
        meta.check_revision(ctx, options.revision, entry.revision)
        _admit(core, ctx, old, options)
        obj = mark(core, ctx, rendered.fresh(), options)
        if obj is None:
            return Removal(rendered, gone=False)
        ends = not is_held(obj)
        if options.dry_run:
            return Removal(Rendered(encode_with_revision(obj)), gone=ends)
        if ends:
            result = await core.store.delete(entry.key, entry.revision)
        else:
            result = await core.store.update(entry.key, encode(to_stored(core, ctx.kind, obj)), entry.revision)
        if not isinstance(result, Conflict):
            return Removal(core.render(ctx.kind, result), gone=ends)
    raise modified(ctx.group, ctx.plural, ctx.name)


def _admit(core: Core, ctx: Context, obj: Obj, options: DeleteOptions) -> None:
    review = Review("DELETE", ctx.kind, ctx.namespace, ctx.name, "", obj, obj, ctx.user, dry_run=options.dry_run)
    core.admission.mutate(review, core)
    core.admission.validate(review, core)


def mark(core: Core, ctx: Context, obj: Obj, options: DeleteOptions) -> Obj | None:
    """The object as its deletion leaves it; None if it was being deleted already and nothing changes."""
    metadata = obj["metadata"]
    grace = _grace(ctx, obj, options)
    finalizers = _finalizers(metadata.get("finalizers") or [], options.propagation)
    now = core.now()
    begun = metadata.get("deletionTimestamp")
    if begun is None:
        metadata["deletionTimestamp"] = rfc3339(now + timedelta(seconds=grace))
        metadata["deletionGracePeriodSeconds"] = grace
        if "generation" in metadata:
            metadata["generation"] += 1
        if ctx.kind.resource == NAMESPACES:
            obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
    else:
        before = metadata.get("deletionGracePeriodSeconds") or 0
        shorter = grace < before and (options.grace is not None or grace == 0)
        if not shorter and finalizers == (metadata.get("finalizers") or []) and is_held(obj):
            return None
        if shorter:
            end = parse_rfc3339(begun) - timedelta(seconds=before - grace)
            metadata["deletionTimestamp"] = rfc3339(max(end, now) if grace else now)
            metadata["deletionGracePeriodSeconds"] = grace
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)
    return obj


def _grace(ctx: Context, obj: Obj, options: DeleteOptions) -> int:
    """Seconds that a pod gets to end; 0 for everything else and for pods that run nowhere."""
    if ctx.kind.resource != PODS:
        return 0
    spec = obj.get("spec") or {}
    if not spec.get("nodeName") or is_terminal(obj):
        return 0
    if options.grace is not None:
        return options.grace if options.grace >= 0 else 1
    given = spec.get("terminationGracePeriodSeconds")
    return _DEFAULT_GRACE if given is None else max(given, 1 if given < 0 else 0)


def _finalizers(given: list[str], propagation: str) -> list[str]:
    if not propagation:
        return given
    kept = [finalizer for finalizer in given if finalizer not in (ORPHAN, FOREGROUND)]
    if propagation == "Orphan":
        kept.append(ORPHAN)
    elif propagation == "Foreground":
        kept.append(FOREGROUND)
    return given if sorted(kept) == sorted(given) else kept
