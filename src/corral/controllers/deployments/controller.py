"""Performs what `plan` says."""

from collections.abc import Iterable, Sequence

from corral.client.informer import Informer
from corral.controllers.deployments.plan import Plan, Scale, plan
from corral.controllers.deployments.revisions import REVISION, same_template
from corral.controllers.pods.claim import adoption_patch, claim, release_patch
from corral.controllers.pods.pods import CONTROLLER_INDEX, controller_index, counts_alike, orphan_key, owner_name
from corral.kinds.owners import controller_of, is_controlled_by
from corral.kinds.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Temporary, Tools
from corral.machinery.status import write_status


class DeploymentController:
    """Rolls each Deployment out through its ReplicaSets."""

    name = "deployment-controller"
    reads = (DEPLOYMENTS, REPLICA_SETS, PODS)
    writes = ("deployments", "deployments/status", "replicasets")

    _tools: Tools
    _deployments: Informer
    _sets: Informer
    _pods: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._deployments = tools.caches.get(DEPLOYMENTS)
        self._sets = tools.caches.get(REPLICA_SETS)
        self._pods = tools.caches.get(PODS)
        self._sets.add_index(CONTROLLER_INDEX, controller_index)
        self._pods.add_index(CONTROLLER_INDEX, controller_index)
        self._deployments.add_index("namespace", lambda obj: [obj["metadata"]["namespace"]])

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A Deployment's own key, a ReplicaSet's owner or adopter, and, for Recreate, the owner of a pod's owner."""
        if resource == DEPLOYMENTS:
            return [key_of(obj)]
        namespace = obj["metadata"]["namespace"]
        if resource == PODS:
            return self._waiting_for(obj)
        if controller_of(obj) is not None:
            name = owner_name(obj, DEPLOYMENTS)
            return [Key(namespace, name)] if name else []
        labels = obj["metadata"].get("labels") or {}
        return [
            key_of(owner)
            for owner in self._deployments.index("namespace", namespace)
            if LabelSelector.from_object(owner["spec"]["selector"]).matches(labels)
        ]

    def matters(self, resource: Resource, old: Obj, new: Obj) -> bool:
        """Of pods only their end does."""
        return resource != PODS or not counts_alike(old, new)

    def _waiting_for(self, pod: Obj) -> list[Key]:
        """Only a Deployment that waits for old pods to end cares about a single pod."""
        set_name = owner_name(pod, REPLICA_SETS)
        replica_set = self._sets.get(Key(pod["metadata"]["namespace"], set_name)) if set_name else None
        name = owner_name(replica_set, DEPLOYMENTS) if replica_set is not None else None
        if not name:
            return []
        key = Key(pod["metadata"]["namespace"], name)
        deployment = self._deployments.get(key)
        recreate = deployment is not None and (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"
        return [key] if recreate else []

    async def reconcile(self, key: Key) -> Result:
        """One step of the rollout."""
        deployment = self._deployments.get(key)
        if deployment is None:
            return Done()
        sets = await self._claimed(deployment)
        pods = [pod for held in sets for pod in self._pods.index(CONTROLLER_INDEX, held["metadata"]["uid"])]
        step = plan(deployment, sets, pods, self._tools.clock.now())
        if step.create is not None and not await self._create(deployment, step.create):
            return Temporary(f"the name of ReplicaSet {step.create['metadata']['name']} is taken; trying another")
        await self._perform(deployment, step)
        written = await write_status(self._tools.client, DEPLOYMENTS, deployment, step.status)
        await self._annotate(written, step.revision)
        return Done() if step.look_again is None else Requeue(step.look_again)

    async def _claimed(self, deployment: Obj) -> Sequence[Obj]:
        metadata = deployment["metadata"]
        claimed = claim(
            deployment,
            LabelSelector.from_object(deployment["spec"]["selector"]),
            self._sets.index(CONTROLLER_INDEX, metadata["uid"]),
            self._sets.index(CONTROLLER_INDEX, orphan_key(metadata["namespace"])),
        )
        client = self._tools.client
        held = list(claimed.held)
        for found in claimed.adopt:
            name = found["metadata"]["name"]
            held.append(
                await client.patch(REPLICA_SETS, name, adoption_patch(found, deployment), metadata["namespace"])
            )
        for found in claimed.release:
            name = found["metadata"]["name"]
            await client.patch(REPLICA_SETS, name, release_patch(found, deployment), metadata["namespace"])
        return held

    async def _create(self, deployment: Obj, wanted: Obj) -> bool:
        """Create the current ReplicaSet; False if its name belongs to another template."""
        client, events = self._tools.client, self._tools.events
        name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
        try:
            await client.create(REPLICA_SETS, wanted)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                events.record(
                    deployment,
                    "Warning",
                    "ReplicaSetCreateError",
                    f'Failed to create new replica set "{name}": {error.message}',
                )
                raise
            present = await client.get(REPLICA_SETS, name, namespace)
            if is_controlled_by(present, deployment) and same_template(deployment, present):
                return True
            old = deployment.get("status") or {}
            raised = {**old, "collisionCount": int(old.get("collisionCount") or 0) + 1}
            await write_status(client, DEPLOYMENTS, deployment, raised)
            return False
        if wanted["spec"]["replicas"]:
            text = f"Scaled up replica set {name} from 0 to {wanted['spec']['replicas']}"
            events.record(deployment, "Normal", "ScalingReplicaSet", text)
        return True

    async def _perform(self, deployment: Obj, step: Plan) -> None:
        client = self._tools.client
        namespace = deployment["metadata"]["namespace"]
        if step.refresh:
            current = next(
                found
                for found in self._sets.index(CONTROLLER_INDEX, deployment["metadata"]["uid"])
                if same_template(deployment, found)
            )
            await client.patch(REPLICA_SETS, current["metadata"]["name"], dict(step.refresh), namespace)
        for scale in step.scale:
            await self._scale(deployment, scale)
        for old in step.delete:
            metadata = old["metadata"]
            try:
                await client.delete(REPLICA_SETS, metadata["name"], namespace, uid=metadata["uid"])
            except StatusError as error:
                if error.code not in (404, 409):
                    raise

    async def _scale(self, deployment: Obj, scale: Scale) -> None:
        metadata = scale.replica_set["metadata"]
        patch: Obj = {
            "metadata": {"uid": metadata["uid"], "annotations": dict(scale.annotations)},
            "spec": {"replicas": scale.replicas},
        }
        await self._tools.client.patch(REPLICA_SETS, metadata["name"], patch, metadata["namespace"])
        if scale.replicas != scale.before:
            way = "up" if scale.replicas > scale.before else "down"
            text = f"Scaled {way} replica set {metadata['name']} from {scale.before} to {scale.replicas}"
            self._tools.events.record(deployment, "Normal", "ScalingReplicaSet", text)

    async def _annotate(self, deployment: Obj, revision: int) -> None:
        if revision:
            metadata = deployment["metadata"]
            patch: Obj = {"metadata": {"annotations": {REVISION: str(revision)}}}
            await self._tools.client.patch(DEPLOYMENTS, metadata["name"], patch, metadata["namespace"])
