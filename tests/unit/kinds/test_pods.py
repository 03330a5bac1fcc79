"""What may change in a pod, and by which road."""

from copy import deepcopy
from typing import Any

import pytest

from corral.kinds.builtin import pods
from corral.kinds.registry import Registry
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

from .conftest import Create, Update
from .samples import container, pod


@pytest.mark.parametrize(
    "change",
    [
        {"containers": [container(image="other")]},
        {"tolerations": [{"key": "a", "operator": "Exists"}]},
        {"activeDeadlineSeconds": 10},
    ],
)
def test_an_update_may_change(create: Create, update: Update, change: Obj) -> None:
    old, _ = create(pod())
    new = deepcopy(old)
    for name, value in change.items():
        new["spec"][name] = value if name != "containers" else [{**new["spec"][name][0], **value[0]}]
    made, causes = update(new, old)
    assert causes == []
    assert made["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"nodeName": "n1"},
        {"containers": [container(), container(name="b")]},
        {"restartPolicy": "Never"},
        {"nodeSelector": {"a": "b"}},
    ],
)
def test_an_update_may_not_change(create: Create, update: Update, change: dict[str, Any]) -> None:
    old, _ = create(pod())
    with pytest.raises(StatusError) as refused:
        update({**old, "spec": {**old["spec"], **change}}, old)
    assert refused.value.code == 422
    assert "pod updates may not change fields other than" in refused.value.message


def test_gates_go_away_and_never_come(create: Create, update: Update) -> None:
    gated, causes = create(pod(schedulingGates=[{"name": "a"}]))
    assert causes == []
    assert gated["status"]["conditions"][0]["reason"] == "SchedulingGated"
    assert update({**gated, "spec": {**gated["spec"], "schedulingGates": []}}, gated)[1] == []
    free, _ = create(pod())
    with pytest.raises(StatusError, match="found new scheduling gate"):
        update({**free, "spec": {**free["spec"], "schedulingGates": [{"name": "b"}]}}, free)


def test_a_binding_is_not_an_update_of_the_pod(create: Create) -> None:
    old, _ = create(pod())
    bound = {**old, "spec": {**old["spec"], "nodeName": "n1"}}
    assert pods.check(bound, old) == []


def test_ephemeral_containers_only_come(create: Create) -> None:
    old, _ = create(pod())
    debug = {"name": "debug", "image": "x"}
    more = {**old, "spec": {**old["spec"], "ephemeralContainers": [debug]}}
    assert pods.check(more, old) == []
    assert [cause.field for cause in pods.check(old, more)] == ["spec.ephemeralContainers[0]"]


def test_a_resize_keeps_the_class_of_service(create: Create) -> None:
    old, _ = create(pod(containers=[container(resources={"requests": {"cpu": "1"}})]))
    larger = deepcopy(old)
    larger["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "2"}}
    assert pods.check(larger, old) == []
    larger["spec"]["containers"][0]["resources"] = {}
    assert any("QOS" in cause.message for cause in pods.check(larger, old))


def test_status_writes_touch_status_only(create: Create, registry: Registry) -> None:
    kind = registry.get("", "v1", "pods")
    assert kind is not None
    old, _ = create(pod())
    new = deepcopy(old)
    new["spec"]["restartPolicy"] = "Never"
    new["metadata"]["labels"] = {"a": "b"}
    new["status"]["phase"] = "Running"
    kind.strategy.prepare_status(new, old)
    assert new == {**old, "status": {**old["status"], "phase": "Running"}}
