"""Where a pod may run: tolerations, affinity, topology spread."""

from collections.abc import Mapping, Sequence
from typing import Any

from corral.kinds.builtin.rules_common import check_label_selector, in_range
from corral.kinds.schema.causes import duplicate, forbidden, invalid, not_supported, required
from corral.kinds.status import Cause
from corral.kinds.validation import label_value, qualified_name

# Gt and Lt are an alpha feature of v1.36, which is off by default (TaintTolerationComparisonOperators).
_TOLERATING = ("Equal", "Exists")


def check_tolerations(tolerations: Sequence[Mapping[str, Any]], path: str) -> list[Cause]:
    """`spec.tolerations`."""
    causes: list[Cause] = []
    for index, toleration in enumerate(tolerations):
        where = f"{path}[{index}]"
        key, operator, value = toleration.get("key"), toleration.get("operator") or "Equal", toleration.get("value")
        if key:
            causes += [invalid(f"{where}.key", key, why) for why in qualified_name(key)]
        elif operator != "Exists":
            why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            causes.append(invalid(f"{where}.operator", toleration.get("operator", ""), why))
        if operator not in _TOLERATING:
            causes.append(not_supported(f"{where}.operator", operator, _TOLERATING))
        if operator == "Exists" and value:
            causes.append(invalid(f"{where}.operator", value, "value must be empty when `operator` is 'Exists'"))
        elif operator == "Equal" and value:
            causes += [invalid(f"{where}.operator", value, why) for why in label_value(value)]
        if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
            why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            causes.append(invalid(f"{where}.effect", toleration.get("effect", ""), why))
    return causes


def check_affinity(affinity: Mapping[str, Any], path: str) -> list[Cause]:
    """`spec.affinity`."""
    causes: list[Cause] = []
    node = affinity.get("nodeAffinity") or {}
    needed = node.get("requiredDuringSchedulingIgnoredDuringExecution")
    if needed is not None:
        where = f"{path}.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
        causes += check_node_selector(needed, where)
    for index, term in enumerate(node.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        where = f"{path}.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        causes += _check_weight(term, where)
        causes += _check_node_term(term.get("preference") or {}, f"{where}.preference")
    for kind in ("podAffinity", "podAntiAffinity"):
        causes += _check_pod_affinity(affinity.get(kind) or {}, f"{path}.{kind}")
    return causes


def check_node_selector(selector: Mapping[str, Any], path: str) -> list[Cause]:
    """`core.v1.NodeSelector`."""
    terms = selector.get("nodeSelectorTerms") or ()
    if not terms:
        return [required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")]
    causes: list[Cause] = []
    for index, term in enumerate(terms):
        causes += _check_node_term(term, f"{path}.nodeSelectorTerms[{index}]")
    return causes


def _check_node_term(term: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, wanted in enumerate(term.get("matchExpressions") or ()):
        where = f"{path}.matchExpressions[{index}]"
        causes += _check_operator(wanted, where)
        causes += [invalid(f"{where}.key", wanted.get("key"), why) for why in qualified_name(wanted.get("key", ""))]
    for index, wanted in enumerate(term.get("matchFields") or ()):
        where = f"{path}.matchFields[{index}]"
        if wanted.get("key") != "metadata.name":
            causes.append(invalid(f"{where}.key", wanted.get("key"), "not a valid field selector key"))
        if wanted.get("operator") in ("In", "NotIn") and len(wanted.get("values") or ()) != 1:
            why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            causes.append(required(f"{where}.values", why))
    return causes


def _check_operator(wanted: Mapping[str, Any], path: str) -> list[Cause]:
    operator, values = wanted.get("operator"), wanted.get("values") or ()
    if operator in ("In", "NotIn") and not values:
        return [required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")]
    if operator in ("Exists", "DoesNotExist") and values:
        return [forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")]
    if operator in ("Gt", "Lt") and len(values) != 1:
        return [required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")]
    return []


def _check_weight(term: Mapping[str, Any], path: str) -> list[Cause]:
    weight = term.get("weight", 0)
    return [] if 1 <= weight <= 100 else [invalid(f"{path}.weight", weight, "must be in the range 1-100")]


def _check_pod_affinity(affinity: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, term in enumerate(affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
        where = f"{path}.requiredDuringSchedulingIgnoredDuringExecution[{index}]"
        causes += _check_pod_term(term, where)
    for index, weighted in enumerate(affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        where = f"{path}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        causes += _check_weight(weighted, where)
        causes += _check_pod_term(weighted.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm")
    return causes


def _check_pod_term(term: Mapping[str, Any], path: str) -> list[Cause]:
    causes = check_label_selector(term.get("labelSelector"), f"{path}.labelSelector")
    causes += check_label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    key = term.get("topologyKey")
    if key:
        causes += [invalid(f"{path}.topologyKey", key, why) for why in qualified_name(key)]
    return causes


def check_spread(constraints: Sequence[Mapping[str, Any]], path: str) -> list[Cause]:
    """`spec.topologySpreadConstraints`."""
    causes: list[Cause] = []
    seen: set[tuple[str, str]] = set()
    for index, constraint in enumerate(constraints):
        where = f"{path}[{index}]"
        if constraint.get("maxSkew", 0) <= 0:
            causes.append(invalid(f"{where}.maxSkew", constraint.get("maxSkew", 0), "must be greater than zero"))
        pair = (constraint.get("topologyKey", ""), constraint.get("whenUnsatisfiable", ""))
        if pair in seen:
            causes.append(duplicate(where, f"{{{pair[0]}, {pair[1]}}}"))
        seen.add(pair)
        domains = constraint.get("minDomains")
        if domains is not None:
            causes += in_range(domains, 1, 2**31 - 1, f"{where}.minDomains")
            if pair[1] != "DoNotSchedule":
                why = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not " + pair[1]
                causes.append(invalid(f"{where}.minDomains", domains, why))
        causes += check_label_selector(constraint.get("labelSelector"), f"{where}.labelSelector")
    return causes
