"""The owner graph and its decisions, and a small world in which everything that should go goes, and nothing else."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from corral.controllers.garbagecollector.decide import (
    Ask,
    Delete,
    Disown,
    Keep,
    LookAt,
    Orphan,
    Release,
    decide,
)
from corral.controllers.garbagecollector.graph import FOREGROUND, ORPHAN, Graph, Node, Owner
from corral.kinds.resources import CONFIG_MAPS
from corral.kinds.types import Key


def node(
    uid: str, *owners: str, blocks: bool = False, finalizers: tuple[str, ...] = (), deleting: bool = False
) -> Node:
    references = tuple(Owner(owner, "v1", "ConfigMap", owner, blocks) for owner in owners)
    return Node(uid, CONFIG_MAPS, Key("n", uid), "1", references, finalizers, deleting)


def graph(*nodes: Node) -> Graph:
    made = Graph()
    for one in nodes:
        made.put(one)
    return made


def test_a_dependent_of_a_healthy_owner_is_not_looked_at() -> None:
    made = graph(node("a"))
    assert made.put(node("b", "a")) == set()


def test_an_unknown_owner_is_a_question() -> None:
    made = Graph()
    child = node("b", "a")
    assert made.put(child) == {"b"}
    assert decide(made, child, {}) == Ask(child.owners)
    assert decide(made, child, {"a": True}) == Keep()
    assert decide(made, child, {"a": False}) == Delete("Background")


def test_an_owner_in_another_namespace_is_a_question_too() -> None:
    made = graph(node("a")._replace(key=Key("other", "a")))
    child = node("b", "a")
    made.put(child)
    assert decide(made, child, {}) == Ask(child.owners)


def test_dependents_are_looked_at_when_their_owner_goes() -> None:
    made = graph(node("a"), node("b", "a"), node("c", "a", "b"))
    assert made.remove("a") == {"b", "c"}
    assert decide(made, made.nodes["c"], {"a": False}) == Disown(frozenset({"a"}))


def test_foreground_waits_for_blocking_dependents() -> None:
    owner = node("a", finalizers=(FOREGROUND,), deleting=True)
    made = graph(node("b", "a", blocks=True), node("c", "a"))
    assert made.put(owner) == {"a", "b", "c"}
    assert decide(made, owner, {}) == LookAt(("b",))
    assert decide(made, made.nodes["b"], {}) == Delete("Background")
    assert made.remove("b") == {"a"}
    assert decide(made, owner, {}) == Release(FOREGROUND)


def test_a_dependent_with_dependents_goes_in_the_foreground_too() -> None:
    owner = node("a", finalizers=(FOREGROUND,), deleting=True)
    made = graph(owner, node("b", "a", blocks=True), node("c", "b", blocks=True))
    assert decide(made, made.nodes["b"], {}) == Delete("Foreground")


def test_a_circle_is_broken() -> None:
    a = node("a", "b", blocks=True, finalizers=(FOREGROUND,), deleting=True)
    made = graph(a, node("b", "a", blocks=True))
    assert decide(made, made.nodes["b"], {}) == Delete("Foreground", frozenset({"a"}))


def test_orphans_are_let_go_before_their_owner() -> None:
    owner = node("a", finalizers=(ORPHAN,), deleting=True)
    made = graph(node("b", "a"))
    assert made.put(owner) == {"a"}
    assert decide(made, owner, {}) == Orphan((made.nodes["b"],))


class World:
    """Objects as the API has them; the graph hears of changes late and in order."""

    def __init__(self, seed: int) -> None:
        self.objects: dict[str, Node] = {}
        self.graph = Graph()
        self.look: set[str] = set()
        self.news: list[tuple[str, Node | None]] = []
        self.rng = random.Random(seed)

    def write(self, changed: Node) -> None:
        if changed.deleting and not changed.finalizers:
            del self.objects[changed.uid]
            self.news.append((changed.uid, None))
        else:
            self.objects[changed.uid] = changed
            self.news.append((changed.uid, changed))

    def delete(self, uid: str, policy: str) -> None:
        found = self.objects.get(uid)
        if found is None:
            return
        extra = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(policy)
        finalizers = tuple(dict.fromkeys((*found.finalizers, *((extra,) if extra else ()))))
        self.write(found._replace(finalizers=finalizers, deleting=True))

    def hear(self, count: int) -> None:
        for uid, changed in self.news[:count]:
            self.look |= self.graph.remove(uid) if changed is None else self.graph.put(changed)
        del self.news[:count]

    def attend(self) -> None:
        uid = self.rng.choice(sorted(self.look))
        self.look.discard(uid)
        found = self.graph.nodes.get(uid)
        if found is None:
            return
        known: dict[str, bool] = {}
        decision = decide(self.graph, found, known)
        if isinstance(decision, Ask):
            known = {owner.uid: owner.uid in self.objects for owner in decision.owners}
            decision = decide(self.graph, found, known)
        if any(known.values()) or self.objects.get(uid) != found:
            # What a 409 or an owner that is not heard of yet does: look again later.
            self.look.add(uid)
            if self.objects.get(uid) != found:
                return
        self.perform(found, decision)

    def perform(self, found: Node, decision: object) -> None:
        match decision:
            case Disown(owners):
                self.write(found._replace(owners=tuple(o for o in found.owners if o.uid not in owners)))
            case Delete(policy, unblock) if unblock:
                assert policy == "Foreground"
                eased = tuple(o._replace(blocks=o.blocks and o.uid not in unblock) for o in found.owners)
                self.write(found._replace(owners=eased))
            case Delete(policy):
                self.delete(found.uid, policy)
            case LookAt(dependents):
                self.look |= set(dependents)
            case Release(finalizer):
                self.write(found._replace(finalizers=tuple(f for f in found.finalizers if f != finalizer)))
            case Orphan(dependents):
                if any(self.objects.get(d.uid) != d for d in dependents):
                    self.look.add(found.uid)
                    return
                for dependent in dependents:
                    kept = tuple(o for o in dependent.owners if o.uid != found.uid)
                    self.write(dependent._replace(owners=kept))
                self.write(found._replace(finalizers=tuple(f for f in found.finalizers if f != ORPHAN)))

    def settle(self) -> None:
        for _ in range(3000):
            self.hear(self.rng.randint(0, 2))
            if self.look:
                self.attend()
            elif not self.news:
                return
        raise AssertionError(f"never settles: {self.look}, {self.objects}")


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    parents=st.lists(st.lists(st.integers(0, 9), max_size=2), min_size=2, max_size=10),
    doomed=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(["Background", "Foreground"])), min_size=1, max_size=3
    ),
)
def test_everything_without_an_owner_left_goes_and_nothing_else(
    seed: int, parents: list[list[int]], doomed: list[tuple[int, str]]
) -> None:
    world = World(seed)
    names = [f"o{number}" for number in range(len(parents))]
    for number, owners in enumerate(parents):
        # Owners come before what they own, so there are no circles here.
        uids = {names[owner] for owner in owners if owner < number}
        world.write(node(names[number], *sorted(uids), blocks=world.rng.random() < 0.5))
    everything = dict(world.objects)
    world.settle()
    assert set(world.objects) == set(names)
    for number, policy in doomed:
        world.delete(names[number % len(names)], policy)
        world.hear(world.rng.randint(0, 3))
    world.settle()
    left = set(names) - {names[number % len(names)] for number, _ in doomed}
    for name in names:
        held_by = {owner.uid for owner in everything[name].owners}
        if held_by and not held_by & left:
            left.discard(name)
    assert set(world.objects) == left
    for found in world.objects.values():
        assert {owner.uid for owner in found.owners} <= left
