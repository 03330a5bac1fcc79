"""`binding`: a pod gets its machine."""

from corral.apiserver import metadata as meta
from corral.apiserver import writing
from corral.apiserver.answers import value_reply
from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.decoding import decode_object
from corral.apiserver.negotiation import PLAIN
from corral.apiserver.options import write_options
from corral.apiserver.rendering import Rendered
from corral.kinds import conditions
from corral.kinds.status import bad_request, conflict
from corral.kinds.types import Obj
from corral.store.protocol import Entry

SUCCESS: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
_BOUND = value_reply(SUCCESS, PLAIN, 201)


async def bind(core: Core, ctx: Context) -> Reply:
    """Set `spec.nodeName` and the condition PodScheduled. `ctx` is that of the pod.

    Raises:
        StatusError: 400; 404; 409 if the pod has a machine or is being deleted.
    """
    binding = decode_object(ctx.call.body, ctx.call.content_type)
    given = meta.shape(binding)
    meta.match_url(given, ctx)
    target = binding.get("target")
    if not isinstance(target, dict) or not target.get("name"):
        raise bad_request("target.name: Required value: a binding names the node")
    if target.get("kind") not in (None, "", "Node"):
        raise bad_request(f'target.kind: Unsupported value: "{target["kind"]}": supported values: "Node"')
    node = str(target["name"])

    def assign(entry: Entry, rendered: Rendered) -> Obj:
        pod = rendered.fresh() if core.admission.concerned(ctx.kind, "UPDATE", ctx.subresource) else _own(rendered.obj)
        spec = pod["spec"]
        if pod["metadata"].get("deletionTimestamp"):
            raise conflict(
                ctx.group, "pods/binding", ctx.name, f"pod {ctx.name} is being deleted, cannot be assigned to a host"
            )
        if spec.get("nodeName"):
            why = f"pod {ctx.name} is already assigned to node {spec['nodeName']!r}".replace("'", '"')
            raise conflict(ctx.group, "pods/binding", ctx.name, why)
        if spec.get("schedulingGates"):
            raise conflict(ctx.group, "pods/binding", ctx.name, f"pod {ctx.name} has non-empty .spec.schedulingGates")
        spec["nodeName"] = node
        if given.get("annotations"):
            pod["metadata"]["annotations"] = {**(pod["metadata"].get("annotations") or {}), **given["annotations"]}
        conditions.set_condition(pod, "PodScheduled", "True", now=core.now())
        for field in ("uid", "resourceVersion"):
            if given.get(field):
                pod["metadata"][field] = given[field]
        return pod

    # Annotations are the one part of a binding that can be wrong. As in Kubernetes, nobody comes to own what it sets.
    sound = not given.get("annotations")
    options = write_options(ctx.query)
    await writing.update(core, ctx, assign, options, [], prepare=_as_it_is, tracked=True, sound=sound)
    return _BOUND


def _own(pod: Obj) -> Obj:
    """A copy of a pod in which what a binding sets may be changed; it shares the rest."""
    status = dict(pod.get("status") or {})
    status["conditions"] = [dict(condition) for condition in status.get("conditions") or ()]
    return {**pod, "metadata": dict(pod["metadata"]), "spec": dict(pod["spec"]), "status": status}


def _as_it_is(obj: Obj, old: Obj) -> None:
    """A binding writes spec and status at once, which neither of the pod's strategies would let it."""
