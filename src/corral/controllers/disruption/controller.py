"""Keeps the status of PodDisruptionBudgets, by which evictions and preemptions go."""

from collections.abc import Iterable

from corral.client.informer import Informer
from corral.controllers.disruption.plan import judge
from corral.kinds.owners import controller_of
from corral.kinds.resources import DEPLOYMENTS, POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS, STATEFUL_SETS
from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Temporary, Tools
from corral.machinery.status import write_status

_NAMESPACE = "namespace"
_SCALED = {resource.kind: resource for resource in (DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS)}


class DisruptionController:
    """Says of each budget how many of its pods may be made to go."""

    name = "disruption-controller"
    reads = (POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS, DEPLOYMENTS, STATEFUL_SETS)
    writes = ("poddisruptionbudgets/status",)

    _tools: Tools
    _budgets: Informer
    _pods: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._budgets = tools.caches.get(POD_DISRUPTION_BUDGETS)
        self._pods = tools.caches.get(PODS)
        for informer in (self._budgets, self._pods):
            informer.add_index(_NAMESPACE, lambda obj: [obj["metadata"]["namespace"]])

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A budget's own key; of a pod, the budgets that choose it; of what manages pods, the namespace's budgets."""
        if resource == POD_DISRUPTION_BUDGETS:
            return [key_of(obj)]
        near = self._budgets.index(_NAMESPACE, obj["metadata"]["namespace"])
        return [key_of(budget) for budget in near if resource != PODS or _chooses(budget, obj)]

    async def reconcile(self, key: Key) -> Result:
        """Bring the status up to date."""
        budget = self._budgets.get(key)
        if budget is None:
            return Done()
        pods = [pod for pod in self._pods.index(_NAMESPACE, key.namespace) if _chooses(budget, pod)]
        verdict = judge(budget, pods, self._expected, self._tools.clock.now())
        if verdict.unmanaged:
            some = ", ".join(verdict.unmanaged[:3])
            words = (
                f"Pods selected by this PodDisruptionBudget (selector: {key.name}) were found to be unmanaged: {some}"
            )
            self._tools.events.record(budget, "Warning", "UnmanagedPods", words)
        await write_status(self._tools.client, POD_DISRUPTION_BUDGETS, budget, verdict.status)
        if verdict.problem:
            return Temporary(verdict.problem)
        return Done() if verdict.look_again is None else Requeue(verdict.look_again)

    def _expected(self, pod: Obj) -> tuple[str, int] | None:
        """What manages the pod and how many pods it wants: the outermost owner that has a scale."""
        obj, found = pod, None
        while (reference := controller_of(obj)) is not None and reference["kind"] in _SCALED:
            owner = self._tools.caches.get(_SCALED[reference["kind"]]).get(
                Key(pod["metadata"]["namespace"], reference["name"])
            )
            if owner is None or owner["metadata"]["uid"] != reference["uid"]:
                break
            obj, found = owner, (owner["metadata"]["uid"], int(owner["spec"].get("replicas", 1)))
        return found


def _chooses(budget: Obj, pod: Obj) -> bool:
    selector = (budget.get("spec") or {}).get("selector")
    return LabelSelector.from_object(selector).matches(pod["metadata"].get("labels") or {})
