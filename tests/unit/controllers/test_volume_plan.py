"""Which claim gets which volume, and how both stand."""

from typing import Any

import pytest

from corral.controllers.volumes.plan import Delete, plan_claim, plan_volume
from corral.controllers.volumes.provisioner import new_volume, refusal
from corral.kinds.storage import VOLUMES_DIRECTORY, default_class
from corral.kinds.types import Obj
from corral.testing.scheduling import node
from corral.testing.storage import claim, storage_class, volume

NOW = storage_class("fast", delayed=False)
LATER = storage_class("fast")
MADE = storage_class("fast", provisioner="example.com/disks", delayed=False)
MADE_LATER = storage_class("fast", provisioner="example.com/disks")


def given(asked: Obj, *volumes: Obj, of: Obj | None = NOW, named: Obj | None = None) -> tuple[str, str, str]:
    """The volume that the claim gets (or nothing), its phase, and the reason of the news."""
    plan = plan_claim(asked, named, volumes, of)
    name = plan.volume["metadata"]["name"] if plan.volume is not None else ""
    return name, plan.claim["status"]["phase"], plan.news.reason if plan.news is not None else ""


SELECTED = {"volume.kubernetes.io/selected-node": "a"}


@pytest.mark.parametrize(
    ("asked", "volumes", "of", "expected"),
    [
        (claim("c"), [volume("v")], NOW, ("v", "Bound", "")),
        (claim("c", size="2Gi"), [volume("v")], NOW, ("", "Pending", "FailedBinding")),
        (claim("c"), [volume("b", size="3Gi"), volume("a", size="2Gi")], NOW, ("a", "Bound", "")),
        # Of equal size, the one with fewer modes.
        (
            claim("c"),
            [volume("a", modes=["ReadWriteOnce", "ReadWriteMany"]), volume("b")],
            NOW,
            ("b", "Bound", ""),
        ),
        # One that refers to the claim comes before all others.
        (claim("c"), [volume("a"), volume("z", size="9Gi", of="c")], NOW, ("z", "Bound", "")),
        (claim("c", modes=["ReadWriteMany"]), [volume("v")], NOW, ("", "Pending", "FailedBinding")),
        (claim("c"), [volume("v", phase="Released")], NOW, ("", "Pending", "FailedBinding")),
        (claim("c"), [volume("v")], LATER, ("", "Pending", "WaitForFirstConsumer")),
        (claim("c"), [volume("v", of="c")], LATER, ("v", "Bound", "")),
        # Where a machine was chosen, no volume of another machine must come in between.
        (claim("c", annotations=SELECTED), [volume("v", on="b")], MADE_LATER, ("", "Pending", "ExternalProvisioning")),
        (claim("c"), [], MADE, ("", "Pending", "ExternalProvisioning")),
        (claim("c"), [], MADE_LATER, ("", "Pending", "WaitForFirstConsumer")),
        (claim("c"), [], None, ("", "Pending", "ProvisioningFailed")),
        (claim("c", storage=""), [volume("v", storage="")], None, ("v", "Bound", "")),
        (claim("c", storage=""), [], None, ("", "Pending", "FailedBinding")),
    ],
)
def test_what_an_unbound_claim_gets(
    asked: Obj, volumes: list[Obj], of: Obj | None, expected: tuple[str, str, str]
) -> None:
    assert given(asked, *volumes, of=of) == expected


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (None, ("", "Pending", "")),
        (volume("v"), ("v", "Bound", "")),
        (volume("v", of="c"), ("v", "Bound", "")),
        (volume("v", of="other"), ("", "Pending", "FailedBinding")),
        (volume("v", size="1Mi"), ("", "Pending", "VolumeMismatch")),
        (volume("v", storage="slow"), ("", "Pending", "VolumeMismatch")),
        (volume("v", volumeMode="Block"), ("", "Pending", "VolumeMismatch")),
        (volume("v", modes=["ReadOnlyMany"]), ("", "Pending", "VolumeMismatch")),
    ],
)
def test_a_claim_that_insists_on_a_volume(named: Obj | None, expected: tuple[str, str, str]) -> None:
    assert given(claim("c", volume="v"), named=named) == expected


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (volume("v", of="c"), ("v", "Bound", "")),
        (volume("v"), ("v", "Bound", "")),
        (None, ("", "Lost", "ClaimLost")),
        (volume("v", of="other"), ("", "Lost", "ClaimMisbound")),
    ],
)
def test_a_bound_claim_stays_bound_or_is_lost(named: Obj | None, expected: tuple[str, str, str]) -> None:
    assert given(claim("c", volume="v", bound=True), named=named) == expected


def test_a_binding_is_written_on_both_and_is_then_left_alone() -> None:
    plan = plan_claim(claim("c"), None, [volume("v", size="2Gi")], NOW)
    assert plan.volume is not None
    reference = plan.volume["spec"]["claimRef"]
    assert (reference["namespace"], reference["name"], reference["uid"]) == ("default", "c", "uid-c")
    assert plan.claim["spec"]["volumeName"] == "v"
    assert plan.claim["status"]["capacity"] == {"storage": "2Gi"}
    marks = {"pv.kubernetes.io/bound-by-controller": "yes", "pv.kubernetes.io/bind-completed": "yes"}
    assert plan.claim["metadata"]["annotations"] == marks
    again = plan_claim(plan.claim, plan.volume, [], NOW)
    assert (again.claim, again.volume) == (plan.claim, plan.volume)
    assert plan_volume(plan.volume, plan.claim) == plan.volume


def test_a_claim_to_provision_names_its_provisioner() -> None:
    plan = plan_claim(claim("c"), None, [], MADE)
    assert plan.claim["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] == "example.com/disks"


def phase(found: Obj | Delete) -> str:
    return "deleted" if isinstance(found, Delete) else str(found["status"]["phase"])


PROVISIONED = {"pv.kubernetes.io/provisioned-by": "example.com/disks"}


@pytest.mark.parametrize(
    ("there", "of", "expected"),
    [
        (volume("v"), None, "Available"),
        (volume("v", of="c"), None, "Released"),
        (volume("v", of="c"), claim("c", uid="another"), "Released"),
        (volume("v", of="c"), claim("c", volume="v"), "Bound"),
        (volume("v", of="c", phase="Pending"), claim("c"), "Pending"),
        (volume("v", of="c"), claim("c", volume="other"), "Available"),
    ],
)
def test_the_phase_of_a_volume(there: Obj, of: Obj | None, expected: str) -> None:
    assert phase(plan_volume(there, of)) == expected


def test_a_volume_that_was_made_for_a_claim_that_took_another_goes() -> None:
    made = volume("v", of="c", persistentVolumeReclaimPolicy="Delete")
    made["metadata"]["annotations"] = PROVISIONED
    assert plan_volume(made, claim("c", volume="other")) == Delete()
    made["metadata"]["annotations"] = {"pv.kubernetes.io/bound-by-controller": "yes"}
    freed = plan_volume(made, claim("c", volume="other"))
    assert not isinstance(freed, Delete)
    assert "claimRef" not in freed["spec"]


def keeper(**annotations: str) -> Obj:
    machine = node("m")
    machine["metadata"]["annotations"] = {VOLUMES_DIRECTORY: "/data/volumes/"} | annotations
    return machine


@pytest.mark.parametrize(
    ("asked", "on", "machine", "why"),
    [
        (claim("c"), keeper(), "m", ""),
        (claim("c"), None, "", "its volumeBindingMode must be WaitForFirstConsumer"),
        (claim("c"), None, "m", "node 'm' not found"),
        (claim("c"), node("m"), "m", "its agent does not keep volumes"),
        (claim("c", modes=["ReadWriteMany"]), keeper(), "m", "use ReadWriteOnce instead of ReadWriteMany"),
        (claim("c", volumeMode="Block"), keeper(), "m", "use volumeMode Filesystem"),
        (claim("c", selector={"matchLabels": {}}), keeper(), "m", ""),
        (claim("c", selector={"matchLabels": {"a": "b"}}), keeper(), "m", "claim.spec.selector is not supported"),
    ],
)
def test_where_a_local_volume_can_be_made(asked: Obj, on: Obj | None, machine: str, why: str) -> None:
    found = refusal(asked, on, machine)
    assert why in found if why else found == "" or asked["spec"].get("selector")


def test_a_local_volume() -> None:
    asked = claim("c", size="5Gi")
    asked["metadata"]["resourceVersion"] = "7"
    made = new_volume(asked, storage_class("fast", reclaimPolicy="Retain"), keeper())
    assert made["spec"]["local"] == {"path": "/data/volumes/pvc-uid-c"}
    assert made["spec"]["capacity"] == {"storage": "5Gi"}
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    plan = plan_claim(asked, None, [made], MADE_LATER)
    assert plan.claim["spec"]["volumeName"] == "pvc-uid-c"


def test_the_default_class_is_the_youngest_that_says_so() -> None:
    def made(name: str, moment: str, **annotations: Any) -> Obj:
        return {"metadata": {"name": name, "creationTimestamp": moment, "annotations": annotations}}

    yes, beta = ({f"storageclass.{part}kubernetes.io/is-default-class": "true"} for part in ("", "beta."))
    assert default_class([made("a", "1")]) == ""
    assert default_class([made("a", "1", **yes), made("b", "2"), made("c", "1", **beta)]) == "a"
    assert default_class([made("a", "1", **yes), made("b", "2", **beta)]) == "b"
