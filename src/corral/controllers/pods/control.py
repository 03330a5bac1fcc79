"""What every controller of pods does the same way: whose a pod is, taking it in, making one, and taking one away."""

from collections.abc import Sequence

from corral.client.informer import Informer
from corral.controllers.pods.claim import adoption_patch, claim, release_patch
from corral.controllers.pods.pods import CONTROLLER_INDEX, controller_index, is_active, name_in, orphan_key
from corral.kinds.owners import controller_of
from corral.kinds.resources import PODS
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Tools
from corral.machinery.refusals import namespace_ends


class PodControl:
    """The pods of the owners in `owners`, on behalf of one controller.

    `finalizer`, if there is one, goes onto every pod taken in and off every pod let go.
    """

    def __init__(self, tools: Tools, owners: Resource, *, finalizer: str = "") -> None:
        self._client = tools.client
        self._events = tools.events
        self._resource = owners
        self._finalizer = finalizer
        self._owners: Informer = tools.caches.get(owners)
        self.pods: Informer = tools.caches.get(PODS)
        self.pods.add_index(CONTROLLER_INDEX, controller_index)
        self._owners.add_index("namespace", lambda obj: [obj["metadata"]["namespace"]])

    def owners_of(self, pod: Obj) -> Sequence[Key]:
        """The keys that an event on `pod` concerns: its owner, or everyone who may adopt it."""
        reference = controller_of(pod)
        if reference is not None:
            name = name_in(reference, self._resource)
            return [Key(pod["metadata"]["namespace"], name)] if name else ()
        return [key_of(owner) for owner in self.adopters(pod)]

    def adopters(self, pod: Obj) -> Sequence[Obj]:
        """The owners whose selector matches a pod."""
        labels = pod["metadata"].get("labels") or {}
        return [
            owner
            for owner in self._owners.index("namespace", pod["metadata"]["namespace"])
            if LabelSelector.from_object(owner["spec"].get("selector")).matches(labels)
        ]

    async def claimed(self, owner: Obj, owned: Sequence[Obj] | None = None) -> Sequence[Obj]:
        """The owner's pods, after adopting those that match and have no owner, and letting go of those that do not.

        Args:
            owned: those of the pods that name it as their controller that are to be looked at; default: all.
        """
        metadata = owner["metadata"]
        if owned is None:
            owned = self.pods.index(CONTROLLER_INDEX, metadata["uid"])
        claims = claim(
            owner,
            LabelSelector.from_object(owner["spec"].get("selector")),
            owned,
            self.pods.index(CONTROLLER_INDEX, orphan_key(metadata["namespace"])),
        )
        held = list(claims.held)
        for pod in claims.adopt:
            if is_active(pod):
                patch = adoption_patch(pod, owner)
                if self._finalizer:
                    finalizers = pod["metadata"].get("finalizers") or ()
                    patch["metadata"]["finalizers"] = sorted({*finalizers, self._finalizer})
                adopted = await self._patch(pod, patch)
                held += [adopted] if adopted is not None else []
        for pod in claims.release:
            await self._patch(pod, release_patch(pod, owner, finalizer=self._finalizer))
        return held

    async def _patch(self, pod: Obj, patch: Obj) -> Obj | None:
        """The patched pod; None if it has gone meanwhile."""
        metadata = pod["metadata"]
        try:
            return await self._client.patch(PODS, metadata["name"], patch, metadata["namespace"])
        except StatusError as error:
            if error.code == 404:
                return None
            raise

    async def create(self, owner: Obj, pod: Obj) -> None:
        """Create a pod, and say so in an event on its owner.

        Raises:
            StatusError: it was refused; that is told in an event too, unless the namespace ends.
        """
        try:
            made = await self._client.create(PODS, pod)
        except StatusError as error:
            if not namespace_ends(error):
                self._events.record(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        self._events.record(owner, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")

    async def delete(self, owner: Obj, pod: Obj) -> None:
        """Delete this very pod, and say so in an event on its owner; one that is gone already is fine.

        Raises:
            StatusError: it was refused.
        """
        metadata = pod["metadata"]
        try:
            await self._client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except StatusError as error:
            if error.code in (404, 409):
                return
            self._events.record(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
            raise
        self._events.record(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {metadata['name']}")
