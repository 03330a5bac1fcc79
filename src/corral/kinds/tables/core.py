"""Tables of namespaces, configuration, accounts and events."""

from datetime import datetime
from typing import Final

from corral.kinds.kind import Column
from corral.kinds.tables.durations import since
from corral.kinds.tables.printer import AGE, NAME, Printers, name, number, of_status, printer, text, timed
from corral.kinds.types import Obj


def _first_seen(event: Obj, now: datetime) -> str:
    return since(event.get("firstTimestamp") or event.get("eventTime"), now)


def _last_seen(event: Obj, now: datetime) -> str:
    series = event.get("series")
    if series:
        return since(series.get("lastObservedTime"), now)
    last = event.get("lastTimestamp")
    return since(last, now) if last else _first_seen(event, now)


def _count(event: Obj) -> int:
    series = event.get("series")
    return int(series.get("count") or 0) if series else int(event.get("count") or 1)


def _target(event: Obj) -> str:
    involved = event.get("involvedObject") or {}
    kind = str(involved.get("kind") or "").lower()
    return f"{kind}/{involved['name']}" if involved.get("name") else kind


def _source(event: Obj) -> str:
    source = event.get("source") or {}
    component = source.get("component") or event.get("reportingComponent") or ""
    host = source.get("host") or event.get("reportingInstance") or ""
    return f"{component}, {host}" if host else component


_EVENTS: Final = printer(
    timed("Last Seen", _last_seen),
    text("Type", lambda obj: obj.get("type", "")),
    text("Reason", lambda obj: obj.get("reason", "")),
    text("Object", _target),
    text("Subobject", lambda obj: (obj.get("involvedObject") or {}).get("fieldPath", ""), wide=True),
    text("Source", _source, wide=True),
    text("Message", lambda obj: str(obj.get("message") or "").strip()),
    timed("First Seen", _first_seen, wide=True),
    text("Count", _count, wide=True),
    (Column("Name", format="name", priority=1), name),
)


def _as_core(event: Obj) -> Obj:
    """An events.k8s.io/v1 Event with the field names of a core/v1 one."""
    return {
        **event,
        "involvedObject": event.get("regarding"),
        "message": event.get("note"),
        "reportingComponent": event.get("reportingController"),
        "source": event.get("deprecatedSource"),
        "firstTimestamp": event.get("deprecatedFirstTimestamp"),
        "lastTimestamp": event.get("deprecatedLastTimestamp"),
        "count": event.get("deprecatedCount"),
    }


PRINTERS: Final[Printers] = {
    ("", "namespaces"): printer(NAME, text("Status", of_status("phase", "")), AGE),
    ("", "configmaps"): printer(
        NAME, text("Data", lambda obj: len(obj.get("data") or ()) + len(obj.get("binaryData") or ())), AGE
    ),
    ("", "secrets"): printer(
        NAME, text("Type", lambda obj: obj.get("type", "")), text("Data", lambda obj: len(obj.get("data") or ())), AGE
    ),
    ("", "serviceaccounts"): printer(NAME, AGE),
    ("", "events"): _EVENTS,
    ("events.k8s.io", "events"): type(_EVENTS)(_EVENTS.columns, lambda obj, now: _EVENTS.cells(_as_core(obj), now)),
    ("scheduling.k8s.io", "priorityclasses"): printer(
        NAME,
        number("Value", lambda obj: obj.get("value", 0)),
        text("Global-Default", lambda obj: bool(obj.get("globalDefault")), type="boolean"),
        AGE,
        text("PreemptionPolicy", lambda obj: obj.get("preemptionPolicy", "")),
    ),
}
