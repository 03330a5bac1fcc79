"""The road of every write: decode, prune, default, admit, prepare, track, validate, store.

Create and update differ in what they start from; the patches, apply and the subresources are updates with another
function from the old object to the new one. A write that loses the compare-and-swap is computed again from what stands
there now, unless the caller named the revision it meant.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from corral.apiserver import alike
from corral.apiserver import metadata as meta
from corral.apiserver.admission.api import Review
from corral.apiserver.context import Context
from corral.apiserver.conversion import convert
from corral.apiserver.core import Core
from corral.apiserver.decoding import decode_object, expect_kind
from corral.apiserver.options import IGNORE, STRICT, WriteOptions
from corral.apiserver.rendering import Rendered, encode, encode_ordered, unrevised
from corral.kinds.apply import track
from corral.kinds.kind import Kind
from corral.kinds.resources import EVENTS, NAMESPACES
from corral.kinds.status import Cause, already_exists, bad_request, invalid, modified
from corral.kinds.types import Obj
from corral.store.protocol import Conflict, Entry

TRIES = 10
"""How often a write that lost a race is computed again before the caller hears of it."""
_NAME_TRIES = 8
# What is large enough that comparing it pays.
_PARTS = frozenset({"data", "spec", "status"})

Prepare = Callable[[Obj, Obj], None]
Validate = Callable[[Obj, Obj], Sequence[Cause]]


class Outcome(msgspec.Struct):
    """What a write made, and what the caller should be warned about."""

    rendered: Rendered
    warnings: list[str]
    created: bool = False
    deleted: bool = False


def manager_of(ctx: Context, options: WriteOptions) -> str:
    """The field manager: as given, else the first part of the user agent, as in Kubernetes."""
    return options.field_manager or ctx.call.user_agent.partition("/")[0][:128] or "unknown"


def read_body(ctx: Context, options: WriteOptions) -> tuple[Obj, list[str]]:
    """The object in the body, and complaints about duplicate fields (if the caller wants to know).

    Raises:
        StatusError: 400 or 415.
    """
    duplicates: list[str] | None = None if options.field_validation == IGNORE else []
    obj = decode_object(ctx.call.body, ctx.call.content_type, duplicates=duplicates)
    expect_kind(obj, ctx.kind.resource)
    meta.shape(obj)
    return obj, [f'duplicate field "{name}"' for name in duplicates or ()]


def prune(
    obj: Obj,
    kind: Kind,
    options: WriteOptions,
    warnings: list[str],
    found: Sequence[str] = (),
    settled: Collection[str] = (),
) -> None:
    """Drop unknown fields and refuse, warn or say nothing, as the caller asked; `found` are complaints so far.

    Raises:
        StatusError: 400 in the words of Kubernetes' strict decoding.
    """
    complaints = [f'unknown field "{path}"' for path in kind.schema.prune(obj, settled)] + list(found)
    if not complaints or options.field_validation == IGNORE:
        return
    if options.field_validation == STRICT:
        name, version = kind.resource.kind, kind.resource.version
        why = f"strict decoding error: {', '.join(complaints)}"
        if not kind.custom:
            why = f'{name} in version "{version}" cannot be handled as a {name}: {why}'
        raise bad_request(why)
    warnings += complaints


async def create(
    core: Core,
    ctx: Context,
    obj: Obj,
    options: WriteOptions,
    warnings: list[str],
    *,
    tracked: bool = False,
    settled: Collection[str] = (),
) -> Outcome:
    """Make a new object; `tracked` says that managedFields are as they should be, `settled` which members have been
    pruned, defaulted and found valid.

    Raises:
        StatusError: 400, 403, 404, 409, 422.
    """
    metadata = obj["metadata"]
    meta.match_url(metadata, ctx)
    if metadata.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    if not metadata.get("name"):
        metadata.pop("name", None)
    meta.need_name(metadata, ctx)
    _check_schema(ctx, obj, settled)
    review = _review(ctx, "CREATE", obj, None, options)
    core.admission.mutate(review, core)
    meta.stamp(metadata, core.timestamp())
    if not tracked:
        metadata.pop("managedFields", None)
    generated = "name" not in metadata
    for _ in range(_NAME_TRIES if generated else 1):
        # Strategies copy the name to other places (a Job to its pods' labels): each new name goes the whole way.
        if generated:
            meta.generate_name(metadata, core.rng)
        ctx.kind.strategy.prepare_create(obj)
        if not tracked:
            _track(core, ctx, None, obj, options)
        _validate(ctx, obj, None)
        core.admission.validate(review, core)
        outcome = await _create(core, ctx, obj, options, warnings)
        if outcome is not None:
            return outcome
    raise already_exists(ctx.group, ctx.plural, metadata["name"])


async def _create(core: Core, ctx: Context, obj: Obj, options: WriteOptions, warnings: list[str]) -> Outcome | None:
    metadata = obj["metadata"]
    key = core.key(ctx.kind, metadata.get("namespace", ""), metadata["name"])
    if options.dry_run:
        if core.store.get(key) is not None:
            return None
        return Outcome(Rendered(encode(obj)), warnings, created=True)
    stored, value = alike.share(unrevised(to_stored(core, ctx.kind, obj)))
    result = await core.store.create(key, value, _memo(ctx.kind, stored))
    if isinstance(result, Conflict):
        return None
    return Outcome(core.render(ctx.kind, result), warnings, created=True)


async def update(
    core: Core,
    ctx: Context,
    change: Callable[[Entry, Rendered], Obj],
    options: WriteOptions,
    warnings: list[str],
    *,
    prepare: Prepare | None = None,
    validate: Validate | None = None,
    found: Sequence[str] = (),
    tracked: bool = False,
    sound: bool = False,
) -> Outcome:
    """Replace an object by what `change` makes of it, for which it gets a copy of its own by `Rendered.fresh`.

    `found` are complaints about the body so far. `tracked` says that `change` keeps managedFields itself; `sound` that
    it makes valid objects of valid ones, so that what it made need not be checked.

    Raises:
        StatusError: 400, 403, 404, 409, 422.
    """
    prepare = prepare or ctx.kind.strategy.prepare_update
    for _ in range(TRIES):
        entry = core.entry(ctx.kind, ctx.namespace, ctx.name)
        rendered = core.render(ctx.kind, entry)
        obj, old = change(entry, rendered), rendered.obj
        _check_identity(ctx, obj, old, entry, sound=sound)
        # Warnings of an attempt that lost its race must not be said twice.
        said = list(warnings)
        if not sound:
            settled = _settled(ctx.kind, obj, old)
            prune(obj, ctx.kind, options, said, found, settled)
            _check_schema(ctx, obj, settled)
        review = _review(ctx, "UPDATE", obj, old, options)
        core.admission.mutate(review, core)
        meta.carry_over(obj["metadata"], old["metadata"])
        prepare(obj, old)
        if not tracked:
            _track(core, ctx, old, obj, options)
        if not sound:
            _validate(ctx, obj, old, validate)
        core.admission.validate(review, core)
        outcome = await _replace(core, ctx, entry, rendered, obj, old, options, said)
        if outcome is not None:
            return outcome
    raise modified(ctx.group, ctx.plural, ctx.name)


async def _replace(
    core: Core,
    ctx: Context,
    entry: Entry,
    rendered: Rendered,
    obj: Obj,
    old: Obj,
    options: WriteOptions,
    warnings: list[str],
) -> Outcome | None:
    obj["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    if same(obj, old):
        return Outcome(rendered, warnings)
    ends = obj["metadata"].get("deletionTimestamp") is not None and not is_held(obj)
    if options.dry_run:
        return Outcome(Rendered(encode_with_revision(obj)), warnings, deleted=ends)
    if ends:
        # The last finalizer goes with this write, so the object does: one step, so that no crash can come between.
        gone = await core.store.delete(entry.key, entry.revision)
        if isinstance(gone, Conflict):
            return None
        obj["metadata"]["resourceVersion"] = str(gone.revision)
        return Outcome(Rendered(encode_with_revision(obj)), warnings, deleted=True)
    stored = unrevised(to_stored(core, ctx.kind, obj))
    result = await core.store.update(entry.key, encode_ordered(stored), entry.revision, _memo(ctx.kind, stored))
    if isinstance(result, Conflict):
        return None
    return Outcome(core.render(ctx.kind, result), warnings)


def _memo(kind: Kind, stored: Obj) -> Obj | None:
    """What readers need not decode again. Nobody changes an object that was written; Events are hardly ever read."""
    return None if kind.resource.kind == EVENTS.kind else stored


def is_held(obj: Obj) -> bool:
    """Whether an object that is being deleted must stay for now: finalizers, or a grace period still running."""
    metadata = obj["metadata"]
    if metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds"):
        return True
    is_namespace = obj["kind"] == NAMESPACES.kind and obj["apiVersion"] == NAMESPACES.api_version
    return is_namespace and bool((obj.get("spec") or {}).get("finalizers"))


def same(obj: Obj, old: Obj) -> bool:
    """Whether a write changes nothing (but the times in managedFields), so that none is needed."""
    if obj == old:
        return True
    if any(obj.get(field) != old.get(field) for field in obj.keys() | old.keys() if field != "metadata"):
        return False
    return _without_times(obj["metadata"]) == _without_times(old["metadata"])


def _without_times(metadata: Obj) -> dict[str, Any]:
    managed = [{**entry, "time": ""} for entry in metadata.get("managedFields") or ()]
    return {**metadata, "managedFields": managed}


def encode_with_revision(obj: Obj) -> bytes:
    """An object's bytes as an answer that is not stored (dry run)."""
    return msgspec.json.encode(obj)


def to_stored(core: Core, kind: Kind, obj: Obj) -> Obj:
    stored = core.stored(kind)
    return obj if stored is kind.resource else convert(dict(obj), kind.resource, stored)


def _check_identity(ctx: Context, obj: Obj, old: Obj, entry: Entry, *, sound: bool) -> None:
    metadata = obj["metadata"] if sound else meta.shape(obj)
    if not sound:
        expect_kind(obj, ctx.kind.resource)
        meta.match_url(metadata, ctx)
    meta.check_uid(ctx, metadata.get("uid", ""), old["metadata"].get("uid", ""))
    given = metadata.get("resourceVersion", "")
    if given in ("", "0"):
        if ctx.kind.custom and ctx.verb == "update":
            why = "Invalid value: 0x0: must be specified for an update"
            raise invalid(
                ctx.group,
                ctx.kind.resource.kind,
                ctx.name,
                [Cause("FieldValueInvalid", why, "metadata.resourceVersion")],
            )
    elif given != str(entry.revision):
        if not given.isdecimal():
            raise meta.bad_version(given)
        raise modified(ctx.group, ctx.plural, ctx.name)
    metadata.pop("resourceVersion", None)


def _review(ctx: Context, operation: Any, obj: Obj, old: Obj | None, options: WriteOptions) -> Review:
    name = obj["metadata"].get("name", "")
    return Review(
        operation, ctx.kind, ctx.namespace, name, ctx.subresource, obj, old, ctx.user, dry_run=options.dry_run
    )


def _track(core: Core, ctx: Context, old: Obj | None, obj: Obj, options: WriteOptions) -> None:
    manager = manager_of(ctx, options)
    track(ctx.kind.schema, old, obj, manager=manager, now=core.now(), subresource=ctx.subresource)


def _settled(kind: Kind, obj: Obj, old: Obj) -> Collection[str]:
    """Parts of `obj` that are as they were stored: pruned, defaulted and valid. A custom kind's schema may have changed
    since, so nothing of its objects is settled."""
    if kind.custom:
        return ()
    return {name for name, value in obj.items() if name in _PARTS and value == old.get(name)}


def _check_schema(ctx: Context, obj: Obj, settled: Collection[str] = ()) -> None:
    """Default and check types, before admission and strategies look at values."""
    ctx.kind.schema.default(obj, settled)
    causes = ctx.kind.schema.validate(obj, settled)
    if causes:
        raise invalid(ctx.group, ctx.kind.resource.kind, obj["metadata"].get("name", ""), causes)


def _validate(ctx: Context, obj: Obj, old: Obj | None, validate: Validate | None = None) -> None:
    causes = list(ctx.kind.strategy.validate(obj, old))
    if validate is not None and old is not None:
        causes += validate(obj, old)
    if causes:
        raise invalid(ctx.group, ctx.kind.resource.kind, obj["metadata"].get("name", ""), causes)
