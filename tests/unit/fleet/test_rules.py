"""Rules name what is wrong with them; commands and addresses are filled in with care."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from corral.app.repair import HostCommands, host_commands
from corral.base.errors import CorralError
from corral.fleet.remote import filled
from corral.fleet.rules import REMEDIES, BadPolicy, default_policy, default_text, read_policy
from corral.kinds.bundled import bundled
from corral.kinds.registry import Registry
from corral.kinds.repairs import REPAIR_POLICIES
from corral.kinds.types import Obj

GOOD: Obj = {"name": "a", "condition": "DiskErrors"}


def policy(*rules: Obj, **more: Any) -> Obj:
    return {"spec": {"rules": list(rules), **more}}


def installed() -> Registry:
    registry = Registry.builtin()
    for file in bundled():
        registry.install_crd(file.parse())
    return registry


def test_corrals_own_rules_are_a_policy_that_the_api_takes() -> None:
    kind = installed().get(REPAIR_POLICIES.group, REPAIR_POLICIES.version, REPAIR_POLICIES.plural)
    assert kind is not None
    obj = yaml.safe_load(default_text())
    assert list(kind.schema.prune(obj, ())) == []
    assert list(kind.schema.validate(obj, ())) == []
    own = default_policy()
    assert {rule.condition for rule in own.rules} >= {
        *("Ready", "ReadonlyFilesystem", "ClockSkewed", "DiskErrors", "OOMStorm", "RuntimeUnhealthy", "ConntrackFull"),
        *("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"),
    }


def test_the_defaults_of_the_schema_are_those_of_the_code() -> None:
    kind = installed().get(REPAIR_POLICIES.group, REPAIR_POLICIES.version, REPAIR_POLICIES.plural)
    assert kind is not None
    obj: Obj = policy(dict(GOOD))
    bare = read_policy(policy(dict(GOOD)))
    kind.schema.default(obj)
    assert obj["spec"]["maxInRepair"] == "34%"
    assert read_policy(obj) == bare


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (policy(GOOD, GOOD), "spec.rules[1].name"),
        (policy({**GOOD, "remedies": [{"type": "Reboot"}]}), "spec.rules[0].drain"),
        (policy({**GOOD, "remedies": [{"type": "Prune"}, {"type": "Prune"}]}), "spec.rules[0].remedies"),
        (policy({**GOOD, "remedies": [{"type": "Pray"}]}), "$.rules[0].remedies[0].type"),
        (policy({**GOOD, "timeout": 3}), "timeout"),
        (policy({"name": "a"}), "condition"),
        (policy(GOOD, maxInRepair="many"), "spec.maxInRepair"),
        (policy(GOOD, selector={"matchExpressions": [{"key": "a", "operator": "Like"}]}), "spec.selector"),
        ({"spec": {}}, "rules"),
    ],
)
def test_what_cannot_be_followed_names_the_field(bad: Obj, said: str) -> None:
    with pytest.raises(BadPolicy) as error:
        read_policy(bad)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("most", "machines", "wanted"),
    [("34%", 1, 1), ("34%", 3, 1), ("34%", 6, 2), ("34%", 1000, 340), ("0%", 50, 1), (5, 3, 5), (0, 3, 1)],
)
def test_the_share_is_rounded_down_and_at_least_one(most: int | str, machines: int, wanted: int) -> None:
    assert read_policy(policy(GOOD, maxInRepair=most)).most(machines) == wanted


def test_a_remedy_may_take_longer_than_it_does_by_default() -> None:
    (rule,) = read_policy(policy({**GOOD, "remedies": [{"type": "Prune", "timeoutSeconds": 7}]})).rules
    (remedy,) = rule.remedies
    assert (remedy.timeout, remedy.settle) == (7, REMEDIES["Prune"].settle)


def test_a_command_gets_an_address_and_never_an_option() -> None:
    command = ["ssh", "root@{address}", "off {machine}"]
    assert filled(command, "m1", "10.0.0.1") == ["ssh", "root@10.0.0.1", "off m1"]
    assert filled(["power", "{machine}"], "m1", "") == ["power", "m1"]
    for address in ("", "-oProxyCommand=reboot", "10.0.0.1 -x", "host"):
        with pytest.raises(CorralError, match="is not an IP address"):
            filled(command, "m1", address)
    with pytest.raises(CorralError, match="no remote command is configured"):
        filled([], "m1", "10.0.0.1")


def test_a_hosts_own_file_is_read_strictly(tmp_path: Path) -> None:
    assert host_commands(tmp_path) == HostCommands()
    file = tmp_path / "repair.yaml"
    file.write_text("reboot: [systemctl, reboot]\n")
    assert host_commands(tmp_path).reboot == ("systemctl", "reboot")
    for text, named in (("reboot: systemctl reboot", "reboot"), ("reboots: []", "reboots"), ("[", "repair.yaml")):
        file.write_text(text)
        with pytest.raises(CorralError, match=named):
            host_commands(tmp_path)
