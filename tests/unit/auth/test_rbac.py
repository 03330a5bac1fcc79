from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.apiserver.auth import bootstrap, escalation
from corral.apiserver.auth.api import ANONYMOUS, Attributes, User
from corral.apiserver.auth.authorizer import CellAuthorizer
from corral.apiserver.auth.bootstrap import build
from corral.apiserver.auth.rules import Rule, uncovered, url_matches
from corral.kinds.status import StatusError
from corral.store.memory import MemoryStore

RBAC = "rbac.authorization.k8s.io"
PLURALS = {
    "Role": (RBAC, "roles"),
    "ClusterRole": (RBAC, "clusterroles"),
    "RoleBinding": (RBAC, "rolebindings"),
    "ClusterRoleBinding": (RBAC, "clusterrolebindings"),
    "Namespace": ("core", "namespaces"),
    "PriorityClass": ("scheduling.k8s.io", "priorityclasses"),
    "StorageClass": ("storage.k8s.io", "storageclasses"),
}
ANN = User("ann", ("devs", "system:authenticated"))


@pytest.fixture
def authorizer(store: MemoryStore) -> CellAuthorizer:
    return CellAuthorizer(store)


async def write(put: Any, *objects: dict[str, Any], gone: bool = False) -> None:
    for obj in objects:
        await put(*PLURALS[obj["kind"]], obj, gone=gone)


def may(authorizer: CellAuthorizer, user: User, verb: str, resource: str, namespace: str = "", name: str = "") -> bool:
    resource, _, subresource = resource.partition("/")
    attributes = Attributes(verb, "", resource, subresource, namespace, name)
    return authorizer.authorize(user, attributes).allowed


async def test_a_role_counts_for_the_next_question(authorizer: CellAuthorizer, put: Any) -> None:
    assert not may(authorizer, ANN, "get", "pods", "a")
    role = build.role("a", "reader", [build.allow("get list", "pods pods/log")])
    binding = build.binding("a", "reader", "reader", build.user("ann"))
    await write(put, role, binding)
    assert may(authorizer, ANN, "get", "pods", "a")
    assert may(authorizer, ANN, "get", "pods/log", "a")
    assert not may(authorizer, ANN, "get", "pods/exec", "a")
    assert not may(authorizer, ANN, "get", "pods", "b")
    assert not may(authorizer, ANN, "get", "pods")
    assert not may(authorizer, ANN, "delete", "pods", "a")
    await write(put, {**role, "rules": [build.allow("delete", "pods")]})
    assert may(authorizer, ANN, "delete", "pods", "a")
    assert not may(authorizer, ANN, "get", "pods", "a")
    await write(put, binding, gone=True)
    assert not may(authorizer, ANN, "delete", "pods", "a")
    await write(put, binding)
    await write(put, role, gone=True)
    assert not may(authorizer, ANN, "delete", "pods", "a")


async def test_started_or_not_the_answer_is_the_same(authorizer: CellAuthorizer, put: Any) -> None:
    await authorizer.start()
    try:
        await write(put, build.cluster_role("r", [build.allow("get", "nodes")]))
        await write(put, build.cluster_binding("r", "r", build.group("devs")))
        assert may(authorizer, ANN, "get", "nodes")
    finally:
        await authorizer.stop()


async def test_subjects(authorizer: CellAuthorizer, put: Any) -> None:
    await write(
        put,
        build.cluster_role("r", [build.allow("get", "nodes")]),
        build.cluster_binding("r", "r", build.user("u"), build.group("g"), build.account("ns", "robot")),
    )
    assert may(authorizer, User("u"), "get", "nodes")
    assert may(authorizer, User("x", ("g",)), "get", "nodes")
    assert may(authorizer, User("system:serviceaccount:ns:robot"), "get", "nodes")
    assert not may(authorizer, User("g"), "get", "nodes")
    assert not may(authorizer, User("x", ("u",)), "get", "nodes")
    assert not may(authorizer, User("system:serviceaccount:other:robot"), "get", "nodes")


async def test_a_binding_of_a_cluster_role_gives_it_in_one_namespace(authorizer: CellAuthorizer, put: Any) -> None:
    binding = build.binding("a", "b", "", build.account("", "robot"))
    binding["roleRef"] = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "r"}
    await write(put, build.cluster_role("r", [build.allow("*", "*", "*")]), binding)
    robot = User("system:serviceaccount:a:robot")
    assert may(authorizer, robot, "delete", "secrets", "a")
    assert not may(authorizer, robot, "delete", "secrets", "b")
    assert not may(authorizer, robot, "delete", "nodes")


async def test_resource_names(authorizer: CellAuthorizer, put: Any) -> None:
    await write(
        put,
        build.cluster_role("r", [build.allow("get update", "configmaps", names="one two")]),
        build.cluster_binding("r", "r", build.user("ann")),
    )
    assert may(authorizer, ANN, "get", "configmaps", "a", "one")
    assert may(authorizer, ANN, "get", "configmaps", "a", "two")
    assert not may(authorizer, ANN, "get", "configmaps", "a", "three")
    assert not may(authorizer, ANN, "get", "configmaps", "a")


async def test_aggregation_follows_labels(authorizer: CellAuthorizer, put: Any) -> None:
    await write(
        put,
        build.aggregate("sum", ["in-sum"]),
        build.aggregate("all", ["in-all"], {"in-sum": "true"}),
        build.cluster_binding("b", "sum", build.user("ann")),
    )
    assert not may(authorizer, ANN, "get", "pods", "a")
    part = build.cluster_role("part", [build.allow("get", "pods")], {"in-all": "true"})
    await write(put, part)
    assert may(authorizer, ANN, "get", "pods", "a")
    await write(put, {**part, "metadata": {"name": "part"}})
    assert not may(authorizer, ANN, "get", "pods", "a")
    # Roles that select each other end all the same.
    await write(put, build.aggregate("loop", ["in-sum"], {"in-sum": "true"}))
    assert not may(authorizer, ANN, "get", "pods", "a")


@pytest.mark.parametrize(
    ("plural", "broken"),
    [
        ("clusterrolebindings", {"metadata": {"name": "x"}}),
        (
            "clusterrolebindings",
            {"metadata": {"name": "x"}, "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [1]},
        ),
        ("clusterroles", {"metadata": {"name": "x"}, "rules": [3]}),
        (
            "clusterroles",
            {
                "metadata": {"name": "x"},
                "aggregationRule": {"clusterRoleSelectors": [{"matchExpressions": [{"key": "!", "operator": "No"}]}]},
            },
        ),
    ],
)
async def test_a_broken_object_gives_nothing_and_takes_nothing(
    authorizer: CellAuthorizer, put: Any, plural: str, broken: dict[str, Any]
) -> None:
    await put(RBAC, plural, broken)
    await write(put, build.cluster_role("z", [build.allow("get", "pods")]))
    await write(put, build.cluster_binding("z", "z", build.user("ann")))
    assert may(authorizer, ANN, "get", "pods", "a")
    assert not may(authorizer, ANN, "list", "pods", "a")


@pytest.mark.parametrize(
    ("resource", "subresource", "rules", "expected"),
    [
        ("pods", "", "pods", True),
        ("pods", "log", "pods", False),
        ("pods", "log", "pods/log", True),
        ("pods", "log", "*/log", True),
        ("pods", "log", "*", True),
        ("pods", "", "*/log", False),
        ("pods", "", "pods/*", False),
        ("deployments", "scale", "*/scale", True),
    ],
)
def test_subresources(resource: str, subresource: str, rules: str, expected: bool) -> None:
    rule = Rule.parse(build.allow("get", rules))
    assert rule.allows(Attributes("get", "", resource, subresource)) is expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/healthz", "/healthz", True),
        ("/healthz", "/healthz/etcd", False),
        ("/healthz/*", "/healthz/etcd", True),
        ("/api*", "/apis/x", True),
        ("*", "/anything", True),
    ],
)
def test_urls(pattern: str, path: str, expected: bool) -> None:
    assert url_matches(pattern, path) is expected


WORDS = st.sampled_from(["a", "b", "*"])
RULES = st.lists(
    st.builds(
        Rule,
        st.frozensets(WORDS, min_size=1),
        st.frozensets(WORDS, min_size=1),
        st.frozensets(st.sampled_from(["a", "b", "a/s", "*/s", "*"]), min_size=1),
        st.frozensets(st.sampled_from(["x", "y"])),
    ),
    max_size=3,
)
QUESTIONS = st.builds(
    Attributes,
    verb=st.sampled_from(["a", "b", "c"]),
    group=st.sampled_from(["a", "b", "c"]),
    resource=st.sampled_from(["a", "b", "c"]),
    subresource=st.sampled_from(["", "s", "t"]),
    name=st.sampled_from(["", "x", "y", "z"]),
)


@settings(deadline=None)
@given(RULES, RULES, QUESTIONS)
def test_covered_rules_allow_nothing_new(have: list[Rule], wanted: list[Rule], question: Attributes) -> None:
    if not uncovered(have, wanted) and any(rule.allows(question) for rule in wanted):
        assert any(rule.allows(question) for rule in have)


@settings(deadline=None)
@given(RULES)
def test_rules_cover_themselves(rules: list[Rule]) -> None:
    assert uncovered(rules, rules) == []


async def test_refusals_read_as_kubernetes_writes_them(authorizer: CellAuthorizer) -> None:
    reason = authorizer.authorize(ANN, Attributes("list", "", "pods", namespace="default")).reason
    assert reason == 'User "ann" cannot list resource "pods" in API group "" in the namespace "default"'
    reason = authorizer.authorize(ANN, Attributes("create", "apps", "deployments", "scale")).reason
    assert reason == 'User "ann" cannot create resource "deployments/scale" in API group "apps" at the cluster scope'
    assert authorizer.authorize(ANN, Attributes("get", path="/x")).reason == 'User "ann" cannot get path "/x"'


async def test_bootstrap(authorizer: CellAuthorizer, put: Any) -> None:
    objects = bootstrap.objects()
    names = [(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects]
    assert len(set(names)) == len(names)
    await write(put, *objects)

    for path in ("/healthz", "/livez", "/readyz", "/version"):
        assert authorizer.authorize(ANONYMOUS, Attributes("get", path=path)).allowed
    for path in ("/", "/api", "/apis", "/openapi/v2", "/metrics", "/healthz/etcd"):
        assert not authorizer.authorize(ANONYMOUS, Attributes("get", path=path)).allowed
    assert not may(authorizer, ANONYMOUS, "list", "pods", "default")

    somebody = User("x", ("system:authenticated",))
    assert authorizer.authorize(somebody, Attributes("get", path="/apis/apps/v1")).allowed
    assert not may(authorizer, somebody, "list", "pods", "default")
    assert may(authorizer, User("root", ("system:masters",)), "delete", "nodes")
    assert authorizer.rules_for(User("root", ("system:masters",)), "default")[0] == (
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    )


@pytest.mark.parametrize(
    ("role", "verb", "group", "resource", "expected"),
    [
        ("view", "list", "", "pods", True),
        ("view", "get", "", "pods/log", True),
        ("view", "get", "corral.dev", "pods/why", True),
        ("view", "get", "corral.dev", "pods/files", False),
        ("view", "get", "", "secrets", False),
        ("view", "create", "", "pods", False),
        ("view", "create", "", "pods/exec", False),
        ("edit", "create", "", "pods/exec", True),
        ("edit", "get", "", "secrets", True),
        ("edit", "get", "corral.dev", "pods/files", True),
        ("edit", "get", "corral.dev", "pods/why", True),
        ("edit", "update", "corral.dev", "sources", True),
        ("edit", "create", RBAC, "roles", False),
        ("admin", "create", RBAC, "roles", True),
        ("admin", "create", "", "pods", True),
        ("admin", "update", "", "namespaces", False),
        ("admin", "escalate", RBAC, "roles", False),
    ],
)
async def test_what_people_get(
    authorizer: CellAuthorizer, put: Any, role: str, verb: str, group: str, resource: str, expected: bool
) -> None:
    await write(put, *bootstrap.objects())
    binding = build.binding("team", "b", "", build.user("ann"))
    binding["roleRef"] = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
    await write(put, binding)
    resource, _, subresource = resource.partition("/")
    question = Attributes(verb, group, resource, subresource, "team")
    assert authorizer.authorize(ANN, question).allowed is expected
    assert not authorizer.authorize(ANN, Attributes(verb, group, resource, subresource, "other")).allowed


async def granted(authorizer: CellAuthorizer, obj: dict[str, Any], namespace: str = "a", **kw: Any) -> bool:
    try:
        escalation.check(authorizer, ANN, obj, namespace, **kw)
    except StatusError as error:
        return error.code not in (403, 404)
    return True


async def test_nobody_grants_what_he_lacks(authorizer: CellAuthorizer, put: Any) -> None:
    await write(
        put,
        build.role("a", "have", [build.allow("get list", "pods"), build.allow("create", "roles rolebindings", RBAC)]),
        build.binding("a", "have", "have", build.user("ann")),
        build.role("a", "small", [build.allow("get", "pods")]),
        build.role("a", "large", [build.allow("get", "secrets")]),
    )
    assert await granted(authorizer, build.role("a", "x", [build.allow("get", "pods", names="one")]))
    assert not await granted(authorizer, build.role("a", "x", [build.allow("get", "secrets")]))
    assert not await granted(authorizer, build.role("a", "x", [build.allow("*", "pods")]))
    assert not await granted(authorizer, build.role("b", "x", [build.allow("get", "pods")]), "b")
    assert not await granted(authorizer, build.cluster_role("x", [build.allow("get", "pods")]), "")
    assert not await granted(authorizer, build.aggregate("x", ["y"]), "")
    assert await granted(authorizer, build.binding("a", "x", "small", build.user("bob")))
    assert not await granted(authorizer, build.binding("a", "x", "large", build.user("bob")))
    assert not await granted(authorizer, build.binding("a", "x", "missing", build.user("bob")))

    large = build.role("a", "large", [build.allow("get", "secrets")])
    relabelled = {**large, "metadata": {"name": "large", "labels": {"a": "b"}}}
    assert await granted(authorizer, relabelled, old=large)
    assert await granted(authorizer, {"kind": "Pod", "metadata": {"name": "x"}})


async def test_escalate_and_bind_are_verbs(authorizer: CellAuthorizer, put: Any) -> None:
    rules = [build.allow("escalate", "roles", RBAC), build.allow("bind", "roles", RBAC, names="large")]
    await write(put, build.role("a", "have", rules), build.binding("a", "have", "have", build.user("ann")))
    assert await granted(authorizer, build.role("a", "x", [build.allow("*", "*", "*")]))
    assert await granted(authorizer, build.binding("a", "x", "large", build.user("bob")))
    assert not await granted(authorizer, build.binding("a", "x", "other", build.user("bob")))
    with pytest.raises(StatusError):
        escalation.check(authorizer, ANN, build.role("b", "x", [build.allow("get", "pods")]), "b")


async def test_the_403_names_what_is_missing(authorizer: CellAuthorizer) -> None:
    with pytest.raises(StatusError, match="not currently held") as error:
        escalation.check(authorizer, ANN, build.role("a", "x", [build.allow("get", "secrets")]), "a")
    assert error.value.code == 403
    assert "Resources:['secrets']" in error.value.message
