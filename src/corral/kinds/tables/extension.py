"""Tables of what extends the API: webhooks, admission policies, API services, flow control, devices."""

from datetime import datetime
from typing import Any, Final

from corral.kinds import conditions
from corral.kinds.tables.durations import since
from corral.kinds.tables.printer import AGE, NAME, Printers, number, of_spec, printer, spec, status, text, timed
from corral.kinds.tables.texts import NONE, UNSET, selector_text
from corral.kinds.types import Obj

_ADMISSION: Final = "admissionregistration.k8s.io"
_FLOW: Final = "flowcontrol.apiserver.k8s.io"
_DEVICES: Final = "resource.k8s.io"

_WEBHOOKS: Final = printer(NAME, number("Webhooks", lambda obj: len(obj.get("webhooks") or ())), AGE)


def _param_kind(policy: Obj) -> str:
    kind = spec(policy).get("paramKind")
    return f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}" if kind else UNSET


def _param_ref(binding: Obj) -> str:
    reference = spec(binding).get("paramRef") or {}
    if reference.get("name"):
        return f"{reference.get('namespace') or '*'}/{reference['name']}"
    return selector_text(reference["selector"]) if reference.get("selector") is not None else UNSET


_POLICY_BINDINGS: Final = printer(NAME, text("PolicyName", of_spec("policyName")), text("ParamRef", _param_ref), AGE)


def _service(api_service: Obj) -> str:
    service = spec(api_service).get("service")
    return f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local"


def _available(api_service: Obj) -> str:
    available = conditions.get(api_service, "Available")
    if available is None:
        return "Unknown"
    said = str(available.get("status", "Unknown"))
    reason = available.get("reason")
    return said if said == "True" or not reason else f"{said} ({reason})"


def _missing_level(flow: Obj) -> str:
    dangling = conditions.get(flow, "Dangling")
    return "?" if dangling is None else str(dangling.get("status", ""))


def _limited(level: Obj) -> Obj:
    return spec(level).get("limited") or {}


def _queuing(field: str) -> Any:
    def read(level: Obj) -> Any:
        return ((_limited(level).get("limitResponse") or {}).get("queuing") or {}).get(field, NONE)

    return read


def _claim_state(claim: Obj) -> str:
    deleted = bool(claim["metadata"].get("deletionTimestamp"))
    states = ["deleted"] if deleted else []
    if status(claim).get("allocation") is not None:
        states.append("allocated")
        if status(claim).get("reservedFor"):
            states.append("reserved")
    elif not deleted:
        states.append("pending")
    return ",".join(states)


def _taint(field: str) -> Any:
    return lambda rule: (spec(rule).get("taint") or {}).get(field, "")


def _taint_added(rule: Obj, now: datetime) -> str:
    added = _taint("timeAdded")(rule)
    return since(added, now) if added else ""


PRINTERS: Final[Printers] = {
    (_ADMISSION, "mutatingwebhookconfigurations"): _WEBHOOKS,
    (_ADMISSION, "validatingwebhookconfigurations"): _WEBHOOKS,
    (_ADMISSION, "validatingadmissionpolicies"): printer(
        NAME,
        number("Validations", lambda obj: len(spec(obj).get("validations") or ())),
        text("ParamKind", _param_kind),
        AGE,
    ),
    (_ADMISSION, "mutatingadmissionpolicies"): printer(
        NAME,
        number("Mutations", lambda obj: len(spec(obj).get("mutations") or ())),
        text("ParamKind", _param_kind),
        AGE,
    ),
    (_ADMISSION, "validatingadmissionpolicybindings"): _POLICY_BINDINGS,
    (_ADMISSION, "mutatingadmissionpolicybindings"): _POLICY_BINDINGS,
    ("apiregistration.k8s.io", "apiservices"): printer(
        NAME, text("Service", _service), text("Available", _available), AGE
    ),
    (_FLOW, "flowschemas"): printer(
        NAME,
        text("PriorityLevel", lambda obj: (spec(obj).get("priorityLevelConfiguration") or {}).get("name", "")),
        text("MatchingPrecedence", of_spec("matchingPrecedence", 0)),
        text("DistinguisherMethod", lambda obj: (spec(obj).get("distinguisherMethod") or {}).get("type", NONE)),
        AGE,
        text("MissingPL", _missing_level),
    ),
    (_FLOW, "prioritylevelconfigurations"): printer(
        NAME,
        text("Type", of_spec("type")),
        text("NominalConcurrencyShares", lambda obj: _limited(obj).get("nominalConcurrencyShares", NONE)),
        text("Queues", _queuing("queues")),
        text("HandSize", _queuing("handSize")),
        text("QueueLengthLimit", _queuing("queueLengthLimit")),
        AGE,
    ),
    (_DEVICES, "deviceclasses"): printer(NAME, AGE),
    (_DEVICES, "resourceclaims"): printer(NAME, text("State", _claim_state), AGE),
    (_DEVICES, "resourceclaimtemplates"): printer(NAME, AGE),
    (_DEVICES, "resourceslices"): printer(
        NAME,
        text("Node", of_spec("nodeName")),
        text("Driver", of_spec("driver")),
        text("Pool", lambda obj: (spec(obj).get("pool") or {}).get("name", "")),
        AGE,
    ),
    (_DEVICES, "devicetaintrules"): printer(
        NAME,
        text("Key", _taint("key")),
        text("Value", _taint("value")),
        text("Effect", _taint("effect")),
        timed("TimeAdded", _taint_added),
        AGE,
    ),
}
