import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.apiserver.routing import Target, split, verb_of
from corral.kinds.types import Resource


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/v1/pods", Target("", "v1", "pods")),
        ("/api/v1/pods/", Target("", "v1", "pods")),
        ("/api/v1/nodes/n1", Target("", "v1", "nodes", name="n1")),
        ("/api/v1/nodes/n1/status", Target("", "v1", "nodes", name="n1", subresource="status")),
        ("/api/v1/namespaces", Target("", "v1", "namespaces")),
        ("/api/v1/namespaces/a", Target("", "v1", "namespaces", name="a")),
        ("/api/v1/namespaces/a/finalize", Target("", "v1", "namespaces", name="a", subresource="finalize")),
        ("/api/v1/namespaces/a/status", Target("", "v1", "namespaces", name="a", subresource="status")),
        ("/api/v1/namespaces/a/pods", Target("", "v1", "pods", "a")),
        ("/api/v1/namespaces/a/pods/p/log", Target("", "v1", "pods", "a", "p", "log")),
        ("/api/v1/nodes/n/proxy/stats/summary", Target("", "v1", "nodes", "", "n", "proxy", "/stats/summary")),
        ("/apis/apps/v1/deployments", Target("apps", "v1", "deployments")),
        ("/apis/apps/v1/namespaces/a/deployments/d/scale", Target("apps", "v1", "deployments", "a", "d", "scale")),
        ("/apis/rbac/v1/namespaces/a/roles/x%3Ay", Target("rbac", "v1", "roles", "a", "x:y")),
    ],
)
def test_resource_paths(path: str, target: Target) -> None:
    assert split(path) == target


@pytest.mark.parametrize(
    "path",
    ["/", "", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/api/v1//pods", "/x/v1/pods"],
)
def test_other_paths(path: str) -> None:
    assert split(path) is None


_word = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)


@given(_word, _word, _word, _word.filter(lambda w: w != "namespaces"), _word, st.booleans())
def test_split_is_the_inverse_of_path(
    group: str, version: str, namespace: str, plural: str, name: str, namespaced: bool
) -> None:
    resource = Resource(group, version, plural, "Kind", namespaced)
    target = split(resource.path(namespace, name))
    assert target == Target(group, version, plural, namespace if namespaced else "", name)


@pytest.mark.parametrize(
    ("method", "name", "watch", "verb"),
    [
        ("GET", "x", False, "get"),
        ("HEAD", "x", False, "get"),
        ("GET", "", False, "list"),
        ("GET", "", True, "watch"),
        ("POST", "", False, "create"),
        ("POST", "x", False, ""),
        ("PUT", "x", False, "update"),
        ("PUT", "", False, ""),
        ("PATCH", "x", False, "patch"),
        ("DELETE", "x", False, "delete"),
        ("DELETE", "", False, "deletecollection"),
        ("OPTIONS", "", False, ""),
    ],
)
def test_verbs(method: str, name: str, watch: bool, verb: str) -> None:
    assert verb_of(method, name, watch) == verb
