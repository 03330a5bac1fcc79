"""Query parameters and option bodies as typed values (metav1.ListOptions, CreateOptions, DeleteOptions ...)."""

from collections.abc import Mapping

import msgspec

from corral.apiserver.decoding import decode_object
from corral.kinds.status import Cause, bad_request, invalid
from corral.kinds.types import Obj

_TRUE = frozenset({"1", "true", "True", "TRUE", "t", "T"})
STRICT, WARN, IGNORE = "Strict", "Warn", "Ignore"


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean parameter; absent is false, present without a value is true, as kube-apiserver reads them."""
    value = query.get(name)
    return value is not None and (value in _TRUE or value == "")


def number(query: Mapping[str, str], name: str) -> int | None:
    """A non-negative whole number, or None if absent.

    Raises:
        StatusError: 400.
    """
    text = query.get(name)
    if not text:
        return None
    if not text.isdecimal() or not text.isascii() or len(text) > 18:
        raise bad_request(f"invalid {name} {text!r}: must be a whole number that is not negative")
    return int(text)


class WriteOptions(msgspec.Struct, frozen=True, gc=False):
    """CreateOptions, UpdateOptions and PatchOptions in one."""

    dry_run: bool = False
    field_manager: str = ""
    field_validation: str = WARN
    force: bool | None = None


_DEFAULT_WRITE = WriteOptions()


def write_options(query: Mapping[str, str]) -> WriteOptions:
    """The options of a write.

    Raises:
        StatusError: 422, a value that is not one of those allowed.
    """
    if not query:
        return _DEFAULT_WRITE
    validation = query.get("fieldValidation") or WARN
    if validation not in (STRICT, WARN, IGNORE):
        why = f'Unsupported value: "{validation}": supported values: "Ignore", "Strict", "Warn"'
        raise invalid("meta.k8s.io", "WriteOptions", "", [Cause("FieldValueNotSupported", why, "fieldValidation")])
    manager = query.get("fieldManager", "")
    if len(manager) > 128 or not manager.isprintable():
        why = f'Invalid value: "{manager[:128]}": may not be more than 128 printable characters'
        raise invalid("meta.k8s.io", "WriteOptions", "", [Cause("FieldValueInvalid", why, "fieldManager")])
    force = flag(query, "force") if "force" in query else None
    return WriteOptions(_dry_run(query.get("dryRun")), manager, validation, force)


def _dry_run(value: str | None) -> bool:
    if not value:
        return False
    if value != "All":
        cause = Cause("FieldValueNotSupported", f'Unsupported value: "{value}": supported values: "All"', "dryRun")
        raise invalid("meta.k8s.io", "WriteOptions", "", [cause])
    return True


class ListOptions(msgspec.Struct, frozen=True):
    """metav1.ListOptions of list, watch and deletecollection."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    token: str = ""
    """`continue`."""
    revision: int | None = None
    """`resourceVersion`; None if absent or empty."""
    match: str = ""
    timeout: int | None = None
    bookmarks: bool = False
    send_initial: bool | None = None


def list_options(query: Mapping[str, str]) -> ListOptions:
    """The options of a list or watch.

    Raises:
        StatusError: 400 or 422.
    """
    options = ListOptions(
        query.get("labelSelector", ""),
        query.get("fieldSelector", ""),
        number(query, "limit") or 0,
        query.get("continue", ""),
        number(query, "resourceVersion"),
        query.get("resourceVersionMatch", ""),
        number(query, "timeoutSeconds"),
        flag(query, "allowWatchBookmarks"),
        flag(query, "sendInitialEvents") if "sendInitialEvents" in query else None,
    )
    _check_list(options, watching=flag(query, "watch"))
    return options


def _check_list(options: ListOptions, *, watching: bool) -> None:
    causes: list[Cause] = []
    if options.match not in ("", "Exact", "NotOlderThan"):
        why = f'Unsupported value: "{options.match}": supported values: "Exact", "NotOlderThan"'
        causes.append(Cause("FieldValueNotSupported", why, "resourceVersionMatch"))
    if watching:
        causes += _check_watch(options)
    elif options.match and options.revision is None:
        causes.append(_no("resourceVersionMatch", "is forbidden unless resourceVersion is provided"))
    elif options.match == "Exact" and options.revision == 0:
        causes.append(_no("resourceVersionMatch", 'is forbidden for resourceVersion "0"'))
    elif options.match and options.token:
        causes.append(_no("resourceVersionMatch", "is forbidden when continue is provided"))
    if causes:
        raise invalid("meta.k8s.io", "ListOptions", "", causes)


def _check_watch(options: ListOptions) -> list[Cause]:
    if options.send_initial is not None and options.match != "NotOlderThan":
        return [_no("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")]
    if options.send_initial is None and options.match:
        return [_no("resourceVersionMatch", "is forbidden for watch unless sendInitialEvents is provided")]
    return []


def _no(field: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {why}", field)


class DeleteOptions(msgspec.Struct, frozen=True):
    """metav1.DeleteOptions."""

    grace: int | None = None
    uid: str = ""
    revision: str = ""
    propagation: str = ""
    dry_run: bool = False


def delete_options(query: Mapping[str, str], body: bytes, content_type: str) -> DeleteOptions:
    """DeleteOptions from the body or, where there is none, from the query.

    Raises:
        StatusError: 400, 415 or 422.
    """
    given: Obj = decode_object(body, content_type) if body.strip() else {}
    if given.get("kind") not in (None, "DeleteOptions"):
        raise bad_request(f"the body of a delete must be DeleteOptions, not {given['kind']}")
    preconditions = given.get("preconditions") or {}
    if not isinstance(preconditions, dict) or not all(isinstance(value, str) for value in preconditions.values()):
        raise bad_request("invalid preconditions: must be an object with uid or resourceVersion, which are strings")
    grace = given.get("gracePeriodSeconds")
    if grace is None:
        grace = number(query, "gracePeriodSeconds")
    if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool)):
        raise bad_request(f"invalid gracePeriodSeconds {grace!r}: must be a whole number of seconds")
    propagation = given.get("propagationPolicy") or query.get("propagationPolicy", "")
    orphan = given.get("orphanDependents")
    if orphan is None and "orphanDependents" in query:
        orphan = flag(query, "orphanDependents")
    if not propagation and orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    if propagation not in ("", "Orphan", "Background", "Foreground"):
        why = f'Unsupported value: "{propagation}": supported values: "Background", "Foreground", "Orphan"'
        raise invalid("", "DeleteOptions", "", [Cause("FieldValueNotSupported", why, "propagationPolicy")])
    dry = given.get("dryRun") or []
    if not isinstance(dry, list) or not all(isinstance(value, str) for value in dry):
        raise bad_request("invalid dryRun: must be an array of strings")
    dry_run = _dry_run(dry[0] if dry else query.get("dryRun"))
    return DeleteOptions(
        grace, preconditions.get("uid") or "", preconditions.get("resourceVersion") or "", propagation, dry_run
    )
