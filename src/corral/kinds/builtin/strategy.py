"""What a built-in kind does beyond its schema: generic steps plus a few functions of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corral.kinds.status import Cause
from corral.kinds.types import Obj
from corral.kinds.validation import NameRule, dns_subdomain, validate_metadata, validate_metadata_update

Prepare = Callable[[Obj], None]
PrepareUpdate = Callable[[Obj, Obj], None]
Validate = Callable[[Obj, Obj | None], Sequence[Cause]]

_NOT_SPEC = frozenset({"apiVersion", "kind", "metadata", "status"})
_SERVER_METADATA = ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink")


def _nothing(obj: Obj) -> None:
    pass


def _nothing_changes(obj: Obj, old: Obj) -> None:
    pass


def _all_right(obj: Obj, old: Obj | None) -> Sequence[Cause]:
    return ()


@dataclass(frozen=True, slots=True)
class BuiltinStrategy:
    """The generic strategy; the functions are what one kind adds. It expects objects that `Schema.prune` accepted."""

    namespaced: bool
    has_status: bool = False
    counts_generation: bool = False
    status_on_create: bool = False
    """Whether the client may set `status` when it creates the object (nodes)."""
    name_rule: NameRule = dns_subdomain
    create: Prepare = _nothing
    update: PrepareUpdate = _nothing_changes
    check: Validate = _all_right

    def prepare_create(self, obj: Obj) -> None:
        """Drop what only the server may set; count from generation 1."""
        if self.has_status and not self.status_on_create:
            obj.pop("status", None)
        metadata = obj.setdefault("metadata", {})
        if self.counts_generation:
            metadata["generation"] = 1
        else:
            metadata.pop("generation", None)
        self.create(obj)

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        """Carry over status and the server's metadata; raise the generation if anything else changed."""
        if self.has_status:
            if "status" in old:
                obj["status"] = old["status"]
            else:
                obj.pop("status", None)
        _carry_metadata(obj, old)
        self.update(obj, old)
        if self.counts_generation and spec_changed(obj, old):
            obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def prepare_status(self, obj: Obj, old: Obj) -> None:
        """Leave of the new object only its status."""
        status = obj.get("status")
        metadata = {**old["metadata"]}
        for name in ("managedFields", "resourceVersion"):
            if name in obj.get("metadata", {}):
                metadata[name] = obj["metadata"][name]
        obj.clear()
        obj.update({key: value for key, value in old.items() if key != "status"})
        obj["metadata"] = metadata
        if status is not None:
            obj["status"] = status

    def validate(self, obj: Obj, old: Obj | None) -> Sequence[Cause]:
        """The rules of object metadata and the kind's own."""
        causes = validate_metadata(obj, namespaced=self.namespaced, name_rule=self.name_rule)
        if old is not None:
            causes += validate_metadata_update(obj, old)
        # What has not changed was accepted before; a write of status alone need not pay for it again.
        if old is None or spec_changed(obj, old):
            causes += self.check(obj, old)
        return causes


def _carry_metadata(obj: Obj, old: Obj) -> None:
    metadata = obj.setdefault("metadata", {})
    before = old["metadata"]
    for name in _SERVER_METADATA:
        if name in before:
            metadata[name] = before[name]
        else:
            metadata.pop(name, None)
    if not metadata.get("uid") and "uid" in before:
        metadata["uid"] = before["uid"]


def spec_changed(obj: Obj, old: Obj) -> bool:
    """Whether anything but metadata and status differs."""
    if len(obj) != len(old):
        return {key: obj[key] for key in obj if key not in _NOT_SPEC} != {
            key: old[key] for key in old if key not in _NOT_SPEC
        }
    return any(key not in _NOT_SPEC and value != old.get(key) for key, value in obj.items())
