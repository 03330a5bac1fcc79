"""A scheduler that only says where a pod may go, as slowly and plainly as the documentation does.

It works on the objects themselves and counts everything anew for each question. Written from Kubernetes' documents
("Assigning Pods to Nodes", "Taints and Tolerations", "Pod Topology Spread Constraints", "Sidecar Containers", "Pod
Overhead", the API reference of core/v1), not from ours; it shares no code with the scheduler.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
KEEPS_AWAY = ("NoSchedule", "NoExecute")
_UNITS = {"m": 0.001, "k": 1e3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}

Obj = dict[str, Any]


@dataclass
class Cell:
    """Everything there is: Nodes by name, the labels of namespaces, and the pods that are on a machine."""

    nodes: dict[str, Obj] = field(default_factory=dict)
    namespaces: dict[str, Mapping[str, str]] = field(default_factory=dict)
    pods: dict[tuple[str, str], Obj] = field(default_factory=dict)

    def on(self, name: str) -> list[Obj]:
        """The pods of a machine."""
        return [pod for pod in self.pods.values() if pod["spec"]["nodeName"] == name]

    def placed(self) -> Iterator[tuple[Obj, Obj]]:
        """Every pod whose machine is there, and that machine."""
        for pod in self.pods.values():
            if pod["spec"]["nodeName"] in self.nodes:
                yield pod, self.nodes[pod["spec"]["nodeName"]]

    def refusals(self, pod: Obj, name: str) -> list[str]:
        """The rules by which `pod` may not go to the machine `name`."""
        node = self.nodes[name]
        rules = {
            "name": pod["spec"].get("nodeName", name) == name,
            "cordon": not node["spec"].get("unschedulable") or tolerates(pod, _CORDON),
            "taints": all(tolerates(pod, taint) for taint in hard_taints(node)),
            "affinity": selects_node(pod, node),
            "ports": self._ports_are_free(pod, name),
            "resources": self._fits(pod, node),
            "pod affinity": self._is_attracted(pod, node),
            "pod anti-affinity": not self._is_repelled(pod, node),
            "spread": self._is_even(pod, node),
        }
        return [rule for rule, holds in rules.items() if not holds]

    def _ports_are_free(self, pod: Obj, name: str) -> bool:
        taken = [port for other in self.on(name) for port in host_ports(other)]
        return not any(_clash(one, other) for one in host_ports(pod) for other in taken)

    def _fits(self, pod: Obj, node: Obj) -> bool:
        taken: Counter[str] = Counter()
        for other in self.on(node["metadata"]["name"]):
            taken.update(requests(other))
        room = {what: quantity(amount) for what, amount in node["status"]["allocatable"].items()}
        return all(
            taken[what] + amount <= room.get(what, 0) + 1e-9 for what, amount in requests(pod).items() if amount > 0
        )

    def _chooses(self, term: Obj, owner: Obj, other: Obj) -> bool:
        """Whether an affinity term of the pod `owner` means the pod `other`."""
        space, names = other["metadata"]["namespace"], term.get("namespaces") or []
        selector = term.get("namespaceSelector")
        if not names and selector is None:
            names = [owner["metadata"]["namespace"]]
        meant = space in names or (selector is not None and selects(selector, self.namespaces.get(space, {})))
        return meant and selects(with_label_keys(term, owner), labels_of(other))

    def _near(self, node: Obj, key: str) -> list[Obj]:
        """The pods in the domain of a machine."""
        value = labels_of(node).get(key)
        return [pod for pod, there in self.placed() if value is not None and labels_of(there).get(key) == value]

    def _is_attracted(self, pod: Obj, node: Obj) -> bool:
        terms = affinity_terms(pod, "podAffinity")

        def wanted(other: Obj) -> bool:
            return all(self._chooses(term, pod, other) for term in terms)

        keys = [term["topologyKey"] for term in terms]
        nobody = not any(wanted(other) and key in labels_of(there) for other, there in self.placed() for key in keys)
        if nobody and wanted(pod):
            return all(key in labels_of(node) for key in keys)
        return all(any(wanted(other) for other in self._near(node, key)) for key in keys)

    def _is_repelled(self, pod: Obj, node: Obj) -> bool:
        own = affinity_terms(pod, "podAntiAffinity")
        if any(self._chooses(term, pod, other) for term in own for other in self._near(node, term["topologyKey"])):
            return True
        return any(
            self._chooses(term, other, pod)
            and labels_of(there).get(term["topologyKey"], 0) == labels_of(node).get(term["topologyKey"], 1)
            for other, there in self.placed()
            for term in affinity_terms(other, "podAntiAffinity")
        )

    def _is_even(self, pod: Obj, node: Obj) -> bool:
        constraints = [
            constraint
            for constraint in pod["spec"].get("topologySpreadConstraints") or []
            if constraint["whenUnsatisfiable"] == "DoNotSchedule"
        ]
        keys = [constraint["topologyKey"] for constraint in constraints]
        return all(self._keeps_skew(pod, node, constraint, keys) for constraint in constraints)

    def _keeps_skew(self, pod: Obj, node: Obj, constraint: Obj, keys: list[str]) -> bool:
        key, selector = constraint["topologyKey"], with_label_keys(constraint, pod)
        if key not in labels_of(node):
            return False
        domains = {labels_of(one)[key]: 0 for one in self.nodes.values() if _counts(one, pod, constraint, keys)}
        for other, there in self.placed():
            same = other["metadata"]["namespace"] == pod["metadata"]["namespace"]
            ends = "deletionTimestamp" in other["metadata"]
            if same and not ends and _counts(there, pod, constraint, keys) and selects(selector, labels_of(other)):
                domains[labels_of(there)[key]] += 1
        enough = len(domains) >= (constraint.get("minDomains") or 1)
        least = min(domains.values()) if domains and enough else 0
        here = domains.get(labels_of(node)[key], 0) + selects(selector, labels_of(pod))
        return bool(here - least <= constraint["maxSkew"])


_CORDON = {"key": "node.kubernetes.io/unschedulable", "value": "", "effect": "NoSchedule"}


def _counts(node: Obj, pod: Obj, constraint: Obj, keys: list[str]) -> bool:
    """Whether a machine belongs to the domains over which a constraint spreads."""
    if not all(key in labels_of(node) for key in keys):
        return False
    if (constraint.get("nodeAffinityPolicy") or "Honor") == "Honor" and not selects_node(pod, node):
        return False
    honest = constraint.get("nodeTaintsPolicy") == "Honor"
    return not honest or all(tolerates(pod, taint) for taint in hard_taints(node))


def labels_of(obj: Obj) -> Mapping[str, str]:
    """The labels of an object."""
    found: Mapping[str, str] = obj["metadata"].get("labels") or {}
    return found


def hard_taints(node: Obj) -> list[Obj]:
    """The taints that keep pods away, with that of a machine that does not report itself ready."""
    taints = [taint for taint in node["spec"].get("taints") or [] if taint["effect"] in KEEPS_AWAY]
    status = next(one["status"] for one in node["status"]["conditions"] if one["type"] == "Ready")
    if status != "True":
        key = "node.kubernetes.io/not-ready" if status == "False" else "node.kubernetes.io/unreachable"
        taints.append({"key": key, "value": "", "effect": "NoSchedule"})
    return taints


def tolerates(pod: Obj, taint: Obj) -> bool:
    """Whether a toleration of the pod matches the taint."""
    for toleration in pod["spec"].get("tolerations") or []:
        key, exists = toleration.get("key") or "", toleration.get("operator") == "Exists"
        same_value = exists or toleration.get("value", "") == taint["value"]
        matches = (exists and not key) or (key == taint["key"] and same_value)
        if matches and toleration.get("effect") in (None, "", taint["effect"]):
            return True
    return False


def requirement_holds(requirement: Obj, labels: Mapping[str, str]) -> bool:
    """One expression of a selector."""
    key, operator, values = requirement["key"], requirement["operator"], requirement.get("values") or []
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    if not labels.get(key, "").isdigit():
        return False
    return int(labels[key]) > int(values[0]) if operator == "Gt" else int(labels[key]) < int(values[0])


def selects(selector: Obj | None, labels: Mapping[str, str]) -> bool:
    """A LabelSelector; none at all chooses nothing."""
    if selector is None:
        return False
    equal = (selector.get("matchLabels") or {}).items() <= dict(labels).items()
    return equal and all(requirement_holds(one, labels) for one in selector.get("matchExpressions") or [])


def with_label_keys(term: Obj, owner: Obj) -> Obj | None:
    """A term's selector with what matchLabelKeys and mismatchLabelKeys add to it."""
    selector: Obj | None = term.get("labelSelector")
    if selector is None:
        return None
    more = [
        {"key": key, "operator": operator, "values": [labels_of(owner)[key]]}
        for field_name, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn"))
        for key in term.get(field_name) or []
        if key in labels_of(owner)
    ]
    return {**selector, "matchExpressions": [*(selector.get("matchExpressions") or []), *more]}


def affinity_terms(pod: Obj, kind: str) -> list[Obj]:
    """The required terms of podAffinity or podAntiAffinity."""
    return list(((pod["spec"].get("affinity") or {}).get(kind) or {}).get(REQUIRED) or [])


def selects_node(pod: Obj, node: Obj) -> bool:
    """nodeSelector and required node affinity: any term, of which all expressions."""
    labels, names = labels_of(node), {"metadata.name": node["metadata"]["name"]}
    if not (pod["spec"].get("nodeSelector") or {}).items() <= dict(labels).items():
        return False
    required = ((pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED)
    if required is None:
        return True
    return any(
        all(requirement_holds(one, labels) for one in term.get("matchExpressions") or [])
        and all(requirement_holds(one, names) for one in term.get("matchFields") or [])
        for term in required["nodeSelectorTerms"]
        if term.get("matchExpressions") or term.get("matchFields")
    )


def quantity(text: str) -> float:
    """A quantity in base units."""
    for unit, factor in sorted(_UNITS.items(), key=lambda item: -len(item[0])):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)


def requests(pod: Obj) -> dict[str, float]:
    """What a pod takes: the larger of what its containers take together and of what any step of its start takes,
    sidecars counting from their start on; pod-level requests instead, where there are some; and the overhead."""
    spec = pod["spec"]
    running: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in spec.get("initContainers") or []:
        own = _amounts((container.get("resources") or {}).get("requests"))
        if container.get("restartPolicy") == "Always":
            running.update(own)
        for what in {*running, *own}:
            start = running[what] + (own[what] if container.get("restartPolicy") != "Always" else 0)
            peak[what] = max(peak[what], start)
    for container in spec["containers"]:
        running.update(_amounts((container.get("resources") or {}).get("requests")))
    total = Counter({what: max(running[what], peak[what]) for what in {*running, *peak}})
    total.update({"pods": 1})
    for what, amount in _amounts((spec.get("resources") or {}).get("requests")).items():
        total[what] = amount
    total.update(_amounts(spec.get("overhead")))
    return dict(total)


def _amounts(texts: Mapping[str, str] | None) -> Counter[str]:
    counted: Counter[str] = Counter()
    for what, text in (texts or {}).items():
        counted[what] = quantity(text)  # type: ignore[assignment]
    return counted


def host_ports(pod: Obj) -> list[tuple[str, str, int]]:
    """Protocol, address and number of each port of the machine that a pod claims."""
    sidecars = [one for one in pod["spec"].get("initContainers") or [] if one.get("restartPolicy") == "Always"]
    return [
        (port.get("protocol", "TCP"), port.get("hostIP", ""), port["hostPort"])
        for container in [*pod["spec"]["containers"], *sidecars]
        for port in container.get("ports") or []
        if port.get("hostPort")
    ]


def _clash(one: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    every = ("", "0.0.0.0")
    return one[0] == other[0] and one[2] == other[2] and (one[1] == other[1] or one[1] in every or other[1] in every)
