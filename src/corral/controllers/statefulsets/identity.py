"""What makes the pod of an ordinal this very pod: its name, its place in DNS, and its claims on storage. Pure."""

import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Final

from corral.controllers.pods.history import HASH_LABEL
from corral.kinds.owners import controller_of, controller_reference, owner_reference, owners_of
from corral.kinds.podtemplate import from_template
from corral.kinds.types import Obj

NAME_LABEL: Final = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL: Final = "apps.kubernetes.io/pod-index"


@dataclass(frozen=True, slots=True)
class Revision:
    """A template that the set has or had, and the name that its pods carry."""

    name: str
    template: Obj


def ordinals(stateful_set: Obj) -> range:
    """The ordinals that should have a pod."""
    spec = stateful_set["spec"]
    start = int((spec.get("ordinals") or {}).get("start") or 0)
    return range(start, start + int(spec.get("replicas", 1)))


def ordinal_of(stateful_set: Obj, pod: Obj) -> int | None:
    """The pod's ordinal; None if its name is not one that the set gives."""
    found = re.fullmatch(re.escape(stateful_set["metadata"]["name"]) + r"-(0|[1-9][0-9]*)", pod["metadata"]["name"])
    return int(found[1]) if found else None


def revision_of(pod: Obj) -> str:
    """The name of the revision that the pod was made from."""
    return str((pod["metadata"].get("labels") or {}).get(HASH_LABEL, ""))


def new_pod(stateful_set: Obj, ordinal: int, revision: Revision) -> Obj:
    """The pod of `ordinal`, made from `revision`."""
    name = f"{stateful_set['metadata']['name']}-{ordinal}"
    pod = from_template(revision.template, stateful_set)
    metadata, spec = pod["metadata"], pod["spec"]
    del metadata["generateName"]
    metadata["name"] = name
    metadata["labels"] |= {HASH_LABEL: revision.name, NAME_LABEL: name, INDEX_LABEL: str(ordinal)}
    spec["hostname"] = name
    spec["subdomain"] = stateful_set["spec"].get("serviceName") or ""
    claimed = {
        template["metadata"]["name"]: {"claimName": claim["metadata"]["name"], "readOnly": False}
        for template, claim in zip(_templates(stateful_set), new_claims(stateful_set, ordinal), strict=True)
    }
    others = [volume for volume in spec.get("volumes") or () if volume["name"] not in claimed]
    spec["volumes"] = others + [{"name": volume, "persistentVolumeClaim": claim} for volume, claim in claimed.items()]
    return pod


def _templates(stateful_set: Obj) -> Sequence[Obj]:
    found: Sequence[Obj] = stateful_set["spec"].get("volumeClaimTemplates") or ()
    return found


def new_claims(stateful_set: Obj, ordinal: int) -> list[Obj]:
    """The claims of `ordinal`, in the order of the templates."""
    metadata = stateful_set["metadata"]
    chosen = (stateful_set["spec"].get("selector") or {}).get("matchLabels") or {}
    made: list[Obj] = []
    for template in _templates(stateful_set):
        claim = deepcopy(template)
        described = claim["metadata"]
        claim |= {"kind": "PersistentVolumeClaim", "apiVersion": "v1"}
        claim.pop("status", None)
        claim["metadata"] = {
            "name": f"{described['name']}-{metadata['name']}-{ordinal}",
            "namespace": metadata["namespace"],
            "labels": {**(described.get("labels") or {}), **chosen},
            **({"annotations": described["annotations"]} if described.get("annotations") else {}),
        }
        made.append(claim)
    return made


def retained_by(stateful_set: Obj, claim: Obj, pod: Obj | None, *, condemned: bool) -> list[Obj] | None:
    """The owners that the claim should have by the set's retention policy; None if it has them.

    A claim that goes with the set is owned by the set, one that goes with scaling down is owned by the pod that goes.
    Owners that are not ours stay.
    """
    policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    have = owners_of(claim)
    wanted = [reference for reference in have if not _is_ours(reference, stateful_set, pod)]
    if policy.get("whenScaled") == "Delete" and condemned and pod is not None:
        wanted.append(owner_reference({"apiVersion": "v1", "kind": "Pod", **pod}))
    elif policy.get("whenDeleted") == "Delete":
        wanted.append(controller_reference(stateful_set))
    return None if wanted == list(have) else wanted


def _is_ours(reference: Obj, stateful_set: Obj, pod: Obj | None) -> bool:
    """Whether the owner is the set or the claim's pod, be it an earlier one of the same name."""
    if reference.get("uid") == stateful_set["metadata"]["uid"]:
        return True
    return pod is not None and (reference.get("kind"), reference.get("name")) == ("Pod", pod["metadata"]["name"])


def is_of(stateful_set: Obj, pod: Obj) -> bool:
    """Whether the pod is held by the set and bears one of its names."""
    reference = controller_of(pod)
    held = reference is not None and reference.get("uid") == stateful_set["metadata"]["uid"]
    return held and ordinal_of(stateful_set, pod) is not None
