from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from corral.kinds.apply.fieldsets import difference, element_text, intersection, is_member, paths, union

elements = st.sampled_from(["f:a", "f:b", 'k:{"n":"x"}', 'v:"y"'])


def normal(node: dict[str, Any]) -> dict[str, Any]:
    """A node that has no other member than itself is written as an empty one."""
    return {} if set(node) == {"."} else node


nodes: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.just({}),
    lambda inner: st.builds(
        lambda children, member: normal({".": {}, **children} if member else children),
        st.dictionaries(elements, inner, max_size=3),
        st.booleans(),
    ),
    max_leaves=8,
)
tries = st.dictionaries(elements, nodes, max_size=3)


def members(trie: dict[str, Any], prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found = set()
    for element, node in trie.items():
        if element != ".":
            path = (*prefix, element)
            if is_member(node):
                found.add(path)
            found |= members(node, path)
    return found


@given(tries, tries)
def test_set_algebra(left: dict[str, Any], right: dict[str, Any]) -> None:
    a, b = members(left), members(right)
    assert members(union(left, right)) == a | b
    assert members(difference(left, right)) == a - b
    assert members(intersection(left, right)) == a & b
    assert bool(intersection(left, right)) == bool(a & b)
    assert bool(difference(left, right)) == bool(a - b)


@given(tries)
def test_identities(trie: dict[str, Any]) -> None:
    assert union(trie, trie) == trie
    assert difference(trie, {}) == trie
    assert difference(trie, trie) == {}
    assert members(intersection(trie, trie)) == members(trie)


def test_paths_read_as_in_kubernetes() -> None:
    trie = {
        "f:spec": {
            "f:containers": {'k:{"name":"web"}': {".": {}, "f:image": {}}},
            "f:ports": {'k:{"port":80,"protocol":"TCP"}': {}},
            "f:finalizers": {'v:"x"': {}, "i:0": {}},
        }
    }
    assert list(paths(trie)) == [
        '.spec.containers[name="web"]',
        '.spec.containers[name="web"].image',
        ".spec.finalizers[0]",
        '.spec.finalizers[="x"]',
        '.spec.ports[port=80,protocol="TCP"]',
    ]
    assert element_text("f:a.b/c") == ".a.b/c"
