"""Events go after an hour without a word."""

import random
from datetime import timedelta

import orjson
import pytest

from corral.apiserver.admission.chain import Chain
from corral.apiserver.core import Core, key_of
from corral.apiserver.expiry import EVENT_LIFE, EventExpiry, is_over
from corral.base.clock import rfc3339, rfc3339_micro
from corral.kinds.registry import Registry
from corral.kinds.resources import CONFIG_MAPS, EVENTS
from corral.kinds.types import Obj
from corral.store.memory import MemoryStore
from corral.testing.clock import EPOCH, FakeClock

_AGO = EPOCH - EVENT_LIFE
_LATER = EPOCH + timedelta(days=365)


def _event(**fields: object) -> Obj:
    return {"metadata": {"name": "e", "creationTimestamp": rfc3339(_AGO)}, **fields}


@pytest.mark.parametrize(
    ("event", "over"),
    [
        (_event(), True),
        ({"metadata": {"creationTimestamp": rfc3339(_AGO + timedelta(seconds=1))}}, False),
        (_event(lastTimestamp=rfc3339(EPOCH)), False),
        (_event(eventTime=rfc3339_micro(EPOCH)), False),
        (_event(series={"count": 2, "lastObservedTime": rfc3339_micro(EPOCH)}), False),
        (_event(lastTimestamp=None, eventTime=None, series=None), True),
        (_event(lastTimestamp=rfc3339(_LATER)), True),
        (_event(lastTimestamp="yesterday"), True),
        ({"metadata": {}}, True),
    ],
)
def test_the_latest_believable_moment_counts(event: Obj, over: bool) -> None:
    assert is_over(event, EPOCH) is over


async def test_old_events_are_deleted_and_nothing_else() -> None:
    clock, store = FakeClock(), MemoryStore()
    expiry = EventExpiry(Core(store, Registry.builtin(), Chain(()), clock, random.Random(0)))
    old = orjson.dumps(_event())
    for number in range(1_200):
        await store.create(key_of(EVENTS, f"ns{number % 3}", f"e{number}"), old)
    await store.create(key_of(EVENTS, "ns1", "fresh"), orjson.dumps(_event(lastTimestamp=rfc3339(clock.now()))))
    await store.create(key_of(CONFIG_MAPS, "ns1", "c"), old)
    assert await expiry.expire() == 1_200
    assert [entry.key for entry in store.current("/")[0]] == [
        key_of(CONFIG_MAPS, "ns1", "c"),
        key_of(EVENTS, "ns1", "fresh"),
    ]
    await clock.advance(EVENT_LIFE.total_seconds())
    assert await expiry.expire() == 1
