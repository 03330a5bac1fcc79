"""The road of a write through the pure rooms, as the API server takes it."""

from collections.abc import Callable
from copy import deepcopy

import pytest

from corral.kinds.registry import Registry
from corral.kinds.status import Cause
from corral.kinds.types import Obj

Create = Callable[[Obj], tuple[Obj, list[Cause]]]
Update = Callable[[Obj, Obj], tuple[Obj, list[Cause]]]


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.builtin()


@pytest.fixture(scope="session")
def create(registry: Registry) -> Create:
    """Prune, default, prepare and validate a new object."""

    def run(given: Obj) -> tuple[Obj, list[Cause]]:
        obj = deepcopy(given)
        group, _, version = obj["apiVersion"].rpartition("/")
        kind = registry.by_kind(group, version, obj["kind"])
        assert kind is not None
        kind.schema.prune(obj)
        kind.schema.default(obj)
        obj["metadata"].setdefault("uid", "uid-1")
        kind.strategy.prepare_create(obj)
        causes = kind.schema.validate(obj)
        return obj, causes or list(kind.strategy.validate(obj, None))

    return run


@pytest.fixture(scope="session")
def update(registry: Registry) -> Update:
    """Prune, default, prepare and validate a changed object against what stands."""

    def run(given: Obj, old: Obj) -> tuple[Obj, list[Cause]]:
        obj = deepcopy(given)
        group, _, version = obj["apiVersion"].rpartition("/")
        kind = registry.by_kind(group, version, obj["kind"])
        assert kind is not None
        kind.schema.prune(obj)
        kind.schema.default(obj)
        kind.strategy.prepare_update(obj, old)
        causes = kind.schema.validate(obj)
        return obj, causes or list(kind.strategy.validate(obj, old))

    return run
