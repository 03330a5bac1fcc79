"""`eviction`: delete a pod, unless a PodDisruptionBudget says that too few would be left."""

import msgspec

from corral.apiserver import metadata as meta
from corral.apiserver.admission.api import Review
from corral.apiserver.answers import value_reply
from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core, key_of
from corral.apiserver.decoding import decode_object
from corral.apiserver.negotiation import PLAIN
from corral.apiserver.options import DeleteOptions, delete_options, write_options
from corral.apiserver.rendering import encode
from corral.apiserver.subresources.binding import SUCCESS
from corral.apiserver.verbs.delete import remove
from corral.apiserver.writing import TRIES
from corral.kinds.podspec import is_ready, is_terminal
from corral.kinds.resources import POD_DISRUPTION_BUDGETS
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import StatusError, internal, too_many_requests
from corral.kinds.types import Obj
from corral.store.protocol import Conflict


async def evict(core: Core, ctx: Context) -> Reply:
    """Delete the pod if its budget allows one more disruption.

    Raises:
        StatusError: 404; 429 if the budget is used up; 500 if several budgets claim the pod.
    """
    eviction = decode_object(ctx.call.body, ctx.call.content_type)
    meta.match_url(meta.shape(eviction), ctx)
    options = _options(ctx, eviction)
    pod = core.render(ctx.kind, core.entry(ctx.kind, ctx.namespace, ctx.name)).obj
    review = Review("CREATE", ctx.kind, ctx.namespace, ctx.name, "eviction", eviction, pod, ctx.user)
    core.admission.validate(review, core)
    if not _needs_no_budget(pod):
        budgets = _budgets(core, pod)
        if len(budgets) > 1:
            raise internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            )
        if budgets and not options.dry_run and not _free_of_charge(pod, budgets[0]):
            await _spend(core, ctx, budgets[0]["metadata"]["name"])
    await remove(core, ctx, options)
    return value_reply(SUCCESS, PLAIN, 201)


def _options(ctx: Context, eviction: Obj) -> DeleteOptions:
    given = eviction.get("deleteOptions")
    body = msgspec.json.encode(given) if given else b""
    options = delete_options({}, body, "application/json")
    if write_options(ctx.query).dry_run:
        options = msgspec.structs.replace(options, dry_run=True)
    return options


def _needs_no_budget(pod: Obj) -> bool:
    pending = (pod.get("status") or {}).get("phase") == "Pending"
    return is_terminal(pod) or pending or bool(pod["metadata"].get("deletionTimestamp"))


def _budgets(core: Core, pod: Obj) -> list[Obj]:
    labels = pod["metadata"].get("labels") or {}
    return [
        budget
        for budget in core.all(POD_DISRUPTION_BUDGETS, pod["metadata"]["namespace"])
        if LabelSelector.from_object((budget.get("spec") or {}).get("selector")).matches(labels)
        and (is_ready(pod) or (budget["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow"))
    ]


def _free_of_charge(pod: Obj, budget: Obj) -> bool:
    """A pod that does not work may go while enough others do (`unhealthyPodEvictionPolicy: IfHealthyBudget`)."""
    status = budget.get("status") or {}
    needed = status.get("desiredHealthy") or 0
    return not is_ready(pod) and 0 < needed <= (status.get("currentHealthy") or 0)


async def _spend(core: Core, ctx: Context, name: str) -> None:
    """Take one of the budget's allowed disruptions, atomically, so that two evictions cannot use the same one."""
    key = key_of(POD_DISRUPTION_BUDGETS, ctx.namespace, name)
    for _ in range(TRIES):
        entry = core.store.get(key)
        if entry is None:
            return
        budget = msgspec.json.decode(entry.value)
        status = budget.get("status") or {}
        _check(budget, status, name)
        status["disruptionsAllowed"] -= 1
        status["disruptedPods"] = {**(status.get("disruptedPods") or {}), ctx.name: core.timestamp()}
        budget["status"] = status
        if not isinstance(await core.store.update(key, encode(budget), entry.revision), Conflict):
            return
    raise too_many_requests(f"cannot evict {ctx.name}: the disruption budget {name} is being changed by others")


def _check(budget: Obj, status: Obj, name: str) -> None:
    observed, wanted = status.get("observedGeneration") or 0, budget["metadata"].get("generation") or 0
    if observed < wanted:
        raise too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 10)
    if (status.get("disruptionsAllowed") or 0) <= 0:
        healthy, needed = status.get("currentHealthy") or 0, status.get("desiredHealthy") or 0
        why = f"The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"
        error = too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 10)
        raise StatusError(429, error.reason, f"{error.message} {why}", retry_after=10)
