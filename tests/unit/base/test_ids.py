"""Identifiers."""

import random
import uuid

from corral.base.ids import new_uid, suffix


def test_uids_are_random_uuids() -> None:
    made = {new_uid() for _ in range(1_000)}
    assert len(made) == 1_000
    for text in made:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)


def test_suffixes_use_all_letters_everywhere() -> None:
    rng = random.Random(1)
    made = [suffix(rng) for _ in range(3_000)]
    assert {len(text) for text in made} == {5}
    assert all(len({text[place] for text in made}) == 27 for place in range(5))
