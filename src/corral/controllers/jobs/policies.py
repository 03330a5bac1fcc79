"""podFailurePolicy and successPolicy. Pure."""

from collections.abc import Collection
from dataclasses import dataclass

from corral.controllers.jobs.indexes import parse
from corral.kinds import conditions
from corral.kinds.types import Obj


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a pod's failure means: `action` is Count, Ignore, FailJob or FailIndex."""

    action: str = "Count"
    message: str = ""

    @property
    def counts(self) -> bool:
        """Whether it counts towards the back-off limits."""
        return self.action in ("Count", "FailIndex", "FailJob")


def judge(job: Obj, pod: Obj) -> Verdict:
    """The first rule of the Job's podFailurePolicy that the failed pod matches; without one, the failure counts."""
    policy = job["spec"].get("podFailurePolicy")
    if policy is None or (pod.get("status") or {}).get("phase") != "Failed":
        return Verdict()
    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    for number, rule in enumerate(policy.get("rules") or ()):
        why = _on_exit_codes(rule.get("onExitCodes"), pod) or _on_conditions(rule.get("onPodConditions"), pod)
        if why:
            action = rule["action"]
            return Verdict(action, f"{why.format(pod=name)} matching {action} rule at index {number}")
    return Verdict()


def _on_exit_codes(rule: Obj | None, pod: Obj) -> str:
    if rule is None:
        return ""
    status = pod.get("status") or {}
    values = rule.get("values") or ()
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        if rule.get("containerName") not in (None, container["name"]):
            continue
        code = ((container.get("state") or {}).get("terminated") or {}).get("exitCode")
        if not code:
            continue
        if (code in values) is (rule["operator"] == "In"):
            return f"Container {container['name']} for pod {{pod}} failed with exit code {code}"
    return ""


def _on_conditions(rules: list[Obj] | None, pod: Obj) -> str:
    for rule in rules or ():
        present = conditions.get(pod, rule["type"])
        if present is not None and present.get("status") == (rule.get("status") or "True"):
            return f"Pod {{pod}} has condition {rule['type']}"
    return ""


def success_rule(job: Obj, succeeded: Collection[int]) -> str:
    """The message of the first rule of the successPolicy that the `succeeded` indexes fulfil; empty if none."""
    policy = job["spec"].get("successPolicy")
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        text = rule.get("succeededIndexes")
        wanted = parse(text) if text is not None else None
        matching = set(succeeded) if wanted is None else wanted & set(succeeded)
        count = rule.get("succeededCount")
        needed = count if count is not None else len(wanted or ())
        if needed and len(matching) >= needed:
            return f"Matched rules at index {number}"
    return ""
