"""The best row by blocks: the same as by looking at all rows, after any changes."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.scheduler.peaks import WIDTH, Layout, Peaks
from corral.scheduler.profile import PROFILES, Profile
from corral.scheduler.scores import NEVER
from corral.scheduler.scores.images import ImageLocality
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import node, pod

some_score = st.sampled_from([NEVER, NEVER, 1.0, 2.0, 2.5])
some_cells = st.lists(st.integers(0, 3), min_size=1, max_size=3 * WIDTH)


@settings(max_examples=150, deadline=None)
@given(some_cells, st.data())
def test_a_draw_is_one_of_the_best_that_pass(cells: list[int], data: st.DataObject) -> None:
    rows, rng = len(cells), random.Random(data.draw(st.integers(0, 3)))
    scores = np.full(rows + 1, NEVER)
    scores[:rows] = rng.choices([NEVER, 1.0, 2.0], k=rows)
    peaks = Peaks(Layout(np.array(cells, dtype=np.int32)), scores)
    for _ in range(3):
        changed = data.draw(st.lists(st.tuples(st.integers(0, rows - 1), some_score), max_size=6))
        for row, score in changed:
            scores[row] = score
        peaks.update(scores, np.array([row for row, _ in changed], dtype=np.intp))
        passing = data.draw(st.none() | st.lists(st.booleans(), min_size=4, max_size=4))
        refused = data.draw(st.sets(st.integers(0, rows - 1)))
        allowed = [row for row in range(rows) if passing is None or passing[cells[row]]]
        best = max((scores[row] for row in allowed), default=NEVER)
        among = {row for row in allowed if scores[row] == best and best > NEVER}
        by_domain = None if passing is None else np.array(passing)
        drawn, certain = peaks.draw(scores, by_domain, (set(range(rows)) - refused).__contains__, rng)
        if drawn is not None:
            assert certain
            assert drawn in among - refused
        else:
            assert certain == (not among)


def test_each_of_the_best_is_drawn_as_often() -> None:
    rows = 5 * WIDTH
    scores = np.append(np.where(np.arange(rows) % 3 == 0, 7.0, 1.0), NEVER)
    peaks = Peaks(Layout(np.zeros(rows, dtype=np.int32)), scores)
    rng, drawn = random.Random(1), np.zeros(rows, dtype=np.int64)
    for _ in range(20 * rows):
        row, _ = peaks.draw(scores, None, lambda row: row % 2 == 0, rng)
        assert row is not None
        drawn[row] += 1
    assert set(np.flatnonzero(drawn)) == {row for row in range(rows) if row % 6 == 0}
    assert drawn[::6].min() > 60
    assert drawn[::6].max() < 200


def test_rows_of_a_block_share_their_domain() -> None:
    cells = np.array([number % 3 for number in range(2 * WIDTH + 7)], dtype=np.int32)
    layout = Layout(cells)
    for block, domain in zip(layout.slots, layout.domains, strict=True):
        assert {int(cells[row]) for row in block if row < len(cells)} == {int(domain)}
    assert sorted(row for row in layout.slots.ravel() if row < len(cells)) == list(range(len(cells)))
    assert all(row in layout.slots[layout.blocks[row]] for row in range(len(cells)))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_no_rule_of_ours_makes_every_decision_look_at_all_machines(profile: Profile) -> None:
    assert len(profile.reticent) == len(profile.peers)
    assert [type(rule).__name__ for rule in profile.by_machine] == ["VolumeUse"]
    assert len(profile.by_domain) == len(profile.peer_filters) - 1


def test_an_image_matters_where_enough_machines_have_it() -> None:
    snapshot = Snapshot()
    large = {"names": ["registry.example.com/x:1"], "sizeBytes": 500 << 20}
    for number in range(4):
        machine = node(f"m{number}")
        machine["status"]["images"] = [large] if number < 2 else []
        snapshot.put_node(machine)
    wanted = pod("p", cpu="1")
    wanted["spec"]["containers"][0]["image"] = "registry.example.com/x:1"
    assert ImageLocality().matters(snapshot, snapshot.classify(wanted), ())
    wanted["spec"]["containers"][0]["image"] = "registry.example.com/y:1"
    assert not ImageLocality().matters(snapshot, snapshot.classify(wanted), ())
