"""Small random cells: few labels, few values, so that rules meet."""

from typing import Any

from hypothesis import strategies as st

from corral.testing.scheduling import node, pod

Obj = dict[str, Any]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
NODES = [f"n{number}" for number in range(5)]
SPACES = ["default", "other"]
KEYS = ["zone", "kubernetes.io/hostname"]


def seldom(strategy: st.SearchStrategy[Any], otherwise: Any, times: int = 3) -> st.SearchStrategy[Any]:
    """`otherwise`, mostly."""
    return st.one_of(*(st.just(otherwise) for _ in range(times)), strategy)


some_labels: st.SearchStrategy[Obj] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"app": st.sampled_from("aab")}, optional={"hash": st.sampled_from("12")}),
    st.fixed_dictionaries({"app": st.just("a"), "hash": st.sampled_from("12")}),
)
some_taint = st.sampled_from(["a=1:NoSchedule", "b=:PreferNoSchedule", "c=1:NoExecute"])
some_toleration = st.sampled_from(
    [
        {"key": "a", "value": "1"},
        {"key": "a", "operator": "Exists", "effect": "NoExecute"},
        {"key": "c", "operator": "Exists"},
        {"operator": "Exists"},
        {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"},
    ]
)
some_expression = st.one_of(
    st.builds(
        lambda key, operator, values: {"key": key, "operator": operator, "values": values},
        st.sampled_from(["zone", "size"]),
        st.sampled_from(["In", "NotIn"]),
        st.lists(st.sampled_from("123"), min_size=1, max_size=2, unique=True),
    ),
    st.builds(
        lambda key, operator: {"key": key, "operator": operator},
        st.sampled_from(["zone", "size"]),
        st.sampled_from(["Exists", "DoesNotExist"]),
    ),
    st.builds(
        lambda operator, value: {"key": "size", "operator": operator, "values": [value]},
        st.sampled_from(["Gt", "Lt"]),
        st.sampled_from("12"),
    ),
)
some_node_term = st.fixed_dictionaries(
    {},
    optional={
        "matchExpressions": st.lists(some_expression, min_size=1, max_size=2),
        "matchFields": st.lists(
            st.builds(
                lambda operator, name: {"key": "metadata.name", "operator": operator, "values": [name]},
                st.sampled_from(["In", "NotIn"]),
                st.sampled_from(NODES),
            ),
            min_size=1,
            max_size=1,
        ),
    },
)
some_selector = st.one_of(
    st.builds(lambda app: {"matchLabels": {"app": app}}, st.sampled_from("ab")),
    st.just({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
    st.just({}),
)
some_term = st.builds(
    lambda key, selector, spaces, own: {"topologyKey": key, "labelSelector": selector, **spaces, **own},
    st.sampled_from(KEYS),
    some_selector,
    st.sampled_from(
        [
            *({} for _ in range(4)),
            {"namespaces": ["other"]},
            {"namespaceSelector": {}},
            {"namespaceSelector": {"matchLabels": {"team": "x"}}, "namespaces": ["other"]},
        ]
    ),
    st.sampled_from([{}, {}, {"matchLabelKeys": ["hash"]}, {"mismatchLabelKeys": ["hash"]}]),
)
some_spread = st.fixed_dictionaries(
    {
        "topologyKey": st.sampled_from(KEYS),
        "labelSelector": some_selector,
        "maxSkew": st.integers(1, 2),
        "whenUnsatisfiable": st.sampled_from(["DoNotSchedule", "DoNotSchedule", "ScheduleAnyway"]),
    },
    optional={
        "matchLabelKeys": st.just(["hash"]),
        "nodeAffinityPolicy": st.sampled_from(["Honor", "Ignore"]),
        "nodeTaintsPolicy": st.sampled_from(["Honor", "Ignore"]),
    },
).flatmap(
    lambda found: (
        st.just(found)
        if found["whenUnsatisfiable"] == "ScheduleAnyway"
        else st.sampled_from([found, {**found, "minDomains": 2}, {**found, "minDomains": 3}])
    )
)
some_requests = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.sampled_from(["300m", "1"]),
        "memory": st.sampled_from(["700Mi", "1Gi"]),
        "ephemeral-storage": st.just("1Gi"),
        "example.com/thing": st.just("1"),
    },
)
some_port = st.builds(
    lambda number, protocol, address: {"hostPort": number, "protocol": protocol, "hostIP": address},
    st.sampled_from([80, 443]),
    st.sampled_from(["TCP", "UDP"]),
    st.sampled_from(["", "10.0.0.1", "10.0.0.2", "0.0.0.0"]),
)


_node_labels = st.fixed_dictionaries({}, optional={"zone": st.sampled_from("123"), "size": st.sampled_from("123x")})


def some_node(names: list[str] = NODES) -> st.SearchStrategy[Obj]:
    """Nodes with one of `names`, that refuse pods for many reasons of their own."""
    return st.builds(
        node,
        st.sampled_from(names),
        cpu=st.sampled_from(["1", "2500m", "4"]),
        memory=st.sampled_from(["2Gi", "3Gi", "9Gi"]),
        pods=st.sampled_from(["2", "9", "9"]),
        labels=_node_labels,
        taints=seldom(st.lists(some_taint, unique=True), []),
        unschedulable=seldom(st.just(True), False, 5),
        extra=st.sampled_from([{}, *[{"ephemeral-storage": "2Gi", "example.com/thing": "1"}] * 2]),
        ready=seldom(st.sampled_from(["False", "Unknown"]), "True", 8),
    )


def roomy_node(names: list[str] = NODES) -> st.SearchStrategy[Obj]:
    """Nodes that refuse pods hardly ever, unless other pods have a say."""
    zones = st.fixed_dictionaries({}, optional={"size": st.sampled_from("12")}).flatmap(
        lambda more: st.sampled_from([{**more, "zone": zone} for zone in "1122"] + [more])
    )
    taints = seldom(st.just(["a=1:NoSchedule"]), [], 6)
    return st.builds(node, st.sampled_from(names), cpu=st.just("99"), labels=zones, taints=taints)


def _containers(requests: Obj, ports: list[Obj], start: list[tuple[Obj, bool]]) -> Obj:
    main = {"name": "main", "resources": {"requests": requests}, "ports": ports}
    init = [
        {"name": f"i{n}", "resources": {"requests": asked}, **({"restartPolicy": "Always"} if stays else {})}
        for n, (asked, stays) in enumerate(start)
    ]
    return {"containers": [main], "initContainers": init}


def _build(name: str, namespace: str, labels: Obj, leaving: bool, priority: int, *parts: Obj) -> Obj:
    made = pod(name, namespace=namespace, labels=labels, priority=priority)
    for part in parts:
        made["spec"] |= part
    if leaving:
        made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return made


def _required(terms: list[Obj]) -> Obj:
    return {REQUIRED: terms}


_between_pods = st.fixed_dictionaries(
    {},
    optional={
        "podAffinity": st.lists(some_term, min_size=1, max_size=2).map(_required),
        "podAntiAffinity": st.lists(some_term, min_size=1, max_size=2).map(_required),
    },
)
_to_nodes = st.fixed_dictionaries(
    {},
    optional={
        "nodeAffinity": st.lists(some_node_term, min_size=1, max_size=2).map(
            lambda terms: {REQUIRED: {"nodeSelectorTerms": terms}}
        )
    },
)
_wishes = st.lists(some_term, min_size=1, max_size=2).map(
    lambda terms: {"podAffinity": {PREFERRED: [{"weight": 5, "podAffinityTerm": term} for term in terms]}}
)
_hardware = st.fixed_dictionaries(
    {"affinity": _to_nodes},
    optional={
        "nodeSelector": st.just({"zone": "1"}),
        "tolerations": st.lists(some_toleration, min_size=1, max_size=2),
        "overhead": st.just({"cpu": "100m"}),
        "resources": seldom(st.just({"requests": {"cpu": "1200m"}}), {}),
    },
)
_some_containers = st.builds(
    _containers,
    some_requests,
    seldom(st.lists(some_port, max_size=2), []),
    seldom(st.lists(st.tuples(some_requests, st.booleans()), max_size=2), []),
)
_sociable = st.one_of(
    _between_pods.map(lambda affinity: {"affinity": affinity}),
    _wishes.map(lambda affinity: {"affinity": affinity}),
    st.builds(
        lambda spread, affinity, more: {"topologySpreadConstraints": spread, "affinity": affinity, **more},
        st.lists(some_spread, min_size=1, max_size=2),
        seldom(_to_nodes, {}),
        seldom(st.just({"tolerations": [{"operator": "Exists"}]}), {}),
    ),
)


def _some(*parts: st.SearchStrategy[Obj]) -> st.SearchStrategy[Obj]:
    leaving, spaces = seldom(st.just(True), False, 2), st.sampled_from(["default", "default", "other"])
    return st.builds(_build, st.just("p"), spaces, some_labels, leaving, st.sampled_from([0, 5]), *parts)


choosy_pod = _some(_hardware, _some_containers)
"""Pods that ask much of their machine."""
social_pod = _some(_sociable)
"""Pods that look at other pods."""
port_pod = _some(st.lists(some_port, min_size=1, max_size=2).map(lambda ports: _containers({}, ports, [])))
"""Pods that want ports of their machine."""
some_pod = st.one_of(choosy_pod, social_pod, port_pod)
