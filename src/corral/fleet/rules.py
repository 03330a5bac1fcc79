"""The rules of repair: a RepairPolicy, read and checked. Pure, but for the file with Corral's own.

The schema of the kind refuses what has the wrong form; here is what a schema cannot say.
"""

import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec
import yaml

from corral.kinds.repairs import Performer, Remedy
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import StatusError
from corral.kinds.types import Obj


class Known(msgspec.Struct, frozen=True):
    """What is known of a remedy. Seconds."""

    performer: Performer
    timeout: int
    settle: int
    """How long after it the trouble may take to go."""
    words: str


REMEDIES: Final[Mapping[Remedy, Known]] = {
    # Conditions stay for up to a minute after what they are about.
    "RestartRuntime": Known("Agent", 60, 60, "restart the container runtime"),
    "Prune": Known("Agent", 300, 120, "prune images and logs"),
    "RestartAgent": Known("Agent", 120, 90, "restart the agent"),
    "Reboot": Known("Agent", 900, 120, "reboot the machine"),
    "Remote": Known("Server", 300, 600, "run the server's remote command"),
}


class PlannedRemedy(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One remedy of a rule."""

    type: Remedy
    timeout_seconds: int | None = None
    settle_seconds: int | None = None

    @property
    def timeout(self) -> int:
        """Seconds that it may take."""
        return self.timeout_seconds if self.timeout_seconds is not None else REMEDIES[self.type].timeout

    @property
    def settle(self) -> int:
        """Seconds that the trouble may take to go when it is done."""
        return self.settle_seconds if self.settle_seconds is not None else REMEDIES[self.type].settle


class Rule(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What to do about one condition."""

    name: str
    condition: str
    status: str = "True"
    timeout_seconds: int = 60
    drain: bool = False
    remedies: tuple[PlannedRemedy, ...] = ()


class Quarantine(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """How much trouble is too much."""

    repairs: int = 3
    window_seconds: int = 86400


class Policy(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The rules of a cell."""

    rules: tuple[Rule, ...]
    enabled: bool = True
    selector: dict[str, object] = {}
    max_in_repair: int | str = "34%"
    probation_seconds: int = 120
    drain_timeout_seconds: int = 600
    history_limit: int = 10
    approvals: frozenset[Remedy] = frozenset()
    quarantine: Quarantine = Quarantine()

    def most(self, machines: int) -> int:
        """How many of so many machines may be out of service at once."""
        most = self.max_in_repair
        if isinstance(most, str):
            most = math.floor(int(most.removesuffix("%")) * machines / 100)
        return max(1, most)

    @property
    def choice(self) -> LabelSelector:
        """Which machines it is about."""
        return LabelSelector.from_object(self.selector or {})

    def rule_of(self, node: Obj) -> Rule | None:
        """The first rule that matches a machine's conditions."""
        said = {(one.get("type"), one.get("status")) for one in (node.get("status") or {}).get("conditions") or ()}
        return next((rule for rule in self.rules if (rule.condition, rule.status) in said), None)

    def seen(self, node: Obj) -> list[Obj]:
        """The conditions of a machine that any rule is about."""
        asked = {(rule.condition, rule.status) for rule in self.rules}
        listed = (node.get("status") or {}).get("conditions") or ()
        return [one for one in listed if (one.get("type"), one.get("status")) in asked]


class BadPolicy(ValueError):
    """A policy that cannot be followed; it names the field."""


def read_policy(obj: Obj) -> Policy:
    """The rules in a RepairPolicy.

    Raises:
        BadPolicy: they cannot be followed, and why.
    """
    try:
        policy = msgspec.convert(obj.get("spec") or {}, Policy)
    except msgspec.ValidationError as error:
        raise BadPolicy(f"spec: {error}") from error
    names = [rule.name for rule in policy.rules]
    for index, rule in enumerate(policy.rules):
        field = f"spec.rules[{index}]"
        if rule.name in names[:index]:
            raise BadPolicy(f"{field}.name: {rule.name!r} is the name of an earlier rule")
        types = [remedy.type for remedy in rule.remedies]
        doubles = sorted({one for one in types if types.count(one) > 1})
        if doubles:
            raise BadPolicy(f"{field}.remedies: {doubles[0]} stands there twice, and each is tried once")
        if "Reboot" in types and not rule.drain:
            raise BadPolicy(f"{field}.drain: must be true, because Reboot ends the pods of the machine")
    try:
        policy.choice.matches({})
    except StatusError as error:
        raise BadPolicy(f"spec.selector: {error.message}") from error
    try:
        policy.most(3)
    except ValueError as error:
        raise BadPolicy(f"spec.maxInRepair: {policy.max_in_repair!r} is neither a number nor a percentage") from error
    return policy


def default_text() -> str:
    """Corral's own rules, as YAML with comments."""
    return files(__package__).joinpath("default_policy.yaml").read_text("utf-8")


@cache
def default_policy() -> Policy:
    """Corral's own rules."""
    return read_policy(yaml.load(default_text(), yaml.CSafeLoader))
