"""Bodies in protobuf become the objects that the same bodies in JSON would be."""

import json
from importlib.resources import files
from typing import Any

import pytest

from corral.apiserver.protobuf import decode_protobuf
from corral.apiserver.protobuf.decoder import MAGIC
from corral.kinds.builtin.definitions import definitions
from corral.kinds.status import StatusError

ROWS: dict[str, list[list[Any]]] = json.loads(files("corral.apiserver.protobuf").joinpath("messages.json").read_bytes())
# What Go's JSON has in place of these is decoded by rules of their own, or inlined.
SPECIAL = {"meta.v1.FieldsV1", "meta.v1.MicroTime", "meta.v1.Time", "runtime.RawExtension", "util.intstr.IntOrString"}
INLINED = {
    "ephemeralContainerCommon",
    "handler",
    "ingressRuleValue",
    "localObjectReference",
    "persistentVolumeSource",
    "rule",
    "ruleWithOperations",
    "volumeSource",
}


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def sized(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def field(number: int, kind: str, value: Any) -> bytes:
    if kind == "string":
        return sized(number, value.encode())
    if kind in ("int", "bool"):
        return varint(number << 3) + varint(int(value))
    if isinstance(value, bytes):
        return sized(number, value)
    if kind == "api.resource.Quantity":
        return sized(number, sized(1, value.encode()))
    return sized(number, message(kind, value))


def message(name: str, values: dict[str, Any]) -> bytes:
    """What Go would send: `values` by the fields' names on the wire."""
    parts = []
    for number, label, kind, many in ROWS[name]:
        if label not in values:
            continue
        value = values[label]
        if many == 2:
            parts += [sized(number, sized(1, key.encode()) + field(2, kind, item)) for key, item in value.items()]
        else:
            parts += [field(number, kind, item) for item in (value if many else [value])]
    return b"".join(parts)


def body(api_version: str, kind: str, name: str, values: dict[str, Any]) -> bytes:
    head = sized(1, api_version.encode()) + sized(2, kind.encode())
    return MAGIC + sized(1, head) + sized(2, message(name, values))


# Go writes every field that is no pointer, said or not.
UNSAID = {"name": "", "generateName": "", "namespace": "", "selfLink": "", "uid": "", "resourceVersion": ""}
CONTAINER = {
    "workingDir": "",
    "resources": {},
    "terminationMessagePath": "",
    "terminationMessagePolicy": "",
    "imagePullPolicy": "",
    "stdin": False,
    "stdinOnce": False,
    "tty": False,
}
POD_SPEC = {
    "restartPolicy": "",
    "dnsPolicy": "",
    "serviceAccountName": "",
    "serviceAccount": "",
    "nodeName": "",
    "hostNetwork": False,
    "hostPID": False,
    "hostIPC": False,
    "hostname": "",
    "subdomain": "",
    "schedulerName": "",
    "priorityClassName": "",
}


def test_what_was_not_said_is_left_out() -> None:
    spec = {**POD_SPEC, "containers": [{**CONTAINER, "name": "c", "image": "host"}]}
    template = {"metadata": {**UNSAID, "labels": {"app": "web"}}, "spec": spec}
    deployment = {
        "metadata": {**UNSAID, "name": "web", "generation": 0},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
            "strategy": {"type": ""},
            "minReadySeconds": 0,
            "paused": False,
        },
        "status": {"observedGeneration": 0, "replicas": 0},
    }
    made = decode_protobuf(body("apps/v1", "Deployment", "api.apps.v1.Deployment", deployment))
    made.pop("status")
    assert made == {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "host", "resources": {}}]},
            },
            "strategy": {},
        },
    }


@pytest.mark.parametrize(
    ("name", "values", "wanted"),
    [
        ("api.core.v1.Pod", {"spec": {"automountServiceAccountToken": False, "hostPID": False}}, False),
        ("api.core.v1.Pod", {"spec": {"terminationGracePeriodSeconds": 0}}, 0),
        ("api.core.v1.PersistentVolumeClaim", {"spec": {"storageClassName": ""}}, ""),
        ("api.core.v1.PersistentVolume", {"spec": {"storageClassName": ""}}, None),
        ("api.coordination.v1.Lease", {"spec": {"holderIdentity": ""}}, ""),
        ("api.core.v1.Node", {"spec": {"unschedulable": False}}, None),
        ("api.core.v1.Service", {"spec": {"publishNotReadyAddresses": False}}, None),
        ("api.batch.v1.Job", {"spec": {"suspend": False}}, False),
    ],
)
def test_pointers_to_zero_are_meant(name: str, values: dict[str, Any], wanted: object) -> None:
    _, group, version, kind = name.split(".")
    api_version = version if group == "core" else f"{group}/{version}"
    if group == "coordination":
        api_version = "coordination.k8s.io/v1"
    spec = decode_protobuf(body(api_version, kind, name, values))["spec"]
    assert list(spec.values()) == ([] if wanted is None else [wanted])


def test_an_empty_text_of_a_variable_is_not_said() -> None:
    variable = {"name": "A", "value": "", "valueFrom": {"fieldRef": {"apiVersion": "", "fieldPath": "spec.nodeName"}}}
    pod = {"spec": {"containers": [{"name": "c", "env": [variable]}]}}
    made = decode_protobuf(body("v1", "Pod", "api.core.v1.Pod", pod))
    env = made["spec"]["containers"][0]["env"]
    assert env == [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]


def test_embedded_messages_are_inlined() -> None:
    path = {"path": "/", "pathType": "Prefix"}
    rule = {"host": "a.b", "ingressRuleValue": {"http": {"paths": [path]}}}
    made = decode_protobuf(
        body("networking.k8s.io/v1", "Ingress", "api.networking.v1.Ingress", {"spec": {"rules": [rule]}})
    )
    assert made["spec"]["rules"] == [{"host": "a.b", "http": {"paths": [path]}}]
    volume = {"name": "v", "volumeSource": {"configMap": {"localObjectReference": {"name": "c"}, "optional": False}}}
    made = decode_protobuf(body("v1", "Pod", "api.core.v1.Pod", {"spec": {"volumes": [volume]}}))
    assert made["spec"]["volumes"] == [{"name": "v", "configMap": {"name": "c", "optional": False}}]


def test_bytes_quantities_negative_numbers_and_ports() -> None:
    secret = decode_protobuf(body("v1", "Secret", "api.core.v1.Secret", {"data": {"k": b"\x00\xff"}}))
    assert secret["data"] == {"k": "AP8="}
    quota = {"spec": {"hard": {"cpu": "500m"}}}
    made = decode_protobuf(body("v1", "ResourceQuota", "api.core.v1.ResourceQuota", quota))
    assert made["spec"]["hard"] == {"cpu": "500m"}
    entry = decode_protobuf(
        body("scheduling.k8s.io/v1", "PriorityClass", "api.scheduling.v1.PriorityClass", {"value": -5})
    )
    assert entry["value"] == -5
    ports = [
        {"port": 80, "targetPort": {"type": 0, "intVal": 8080}},
        {"port": 81, "targetPort": {"type": 1, "strVal": "web"}},
    ]
    service = decode_protobuf(body("v1", "Service", "api.core.v1.Service", {"spec": {"ports": ports}}))
    assert [port["targetPort"] for port in service["spec"]["ports"]] == [8080, "web"]


def test_fields_have_the_names_of_their_json() -> None:
    """Every field on the wire is one of the definition of its message, or inlined into it."""
    known = definitions()
    names = set(known.names())
    for wire, rows in ROWS.items():
        name = wire.removeprefix("apis.").removeprefix("api.") if wire != "api.resource.Quantity" else ""
        if name not in names or name in SPECIAL:
            continue
        strange = {row[1] for row in rows} - set(known.raw(name).get("properties", {})) - INLINED
        assert not strange, name


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", 400, "does not begin"),
        (b"{}", 400, "does not begin"),
        (MAGIC + b"\x0a\xff", 400, "protobuf"),
        (MAGIC + b"\xff" * 20, 400, "longer than 64 bits"),
        (MAGIC + sized(1, sized(1, b"v1") + sized(2, b"Nothing")), 415, "Nothing of v1"),
        (MAGIC + sized(1, sized(1, b"v1") + sized(2, b"Pod")) + sized(2, varint(999 << 3) + b"\x01"), 415, "field 999"),
        (MAGIC + sized(1, sized(1, b"v1") + sized(2, b"Pod")) + sized(2, sized(1, b"\xff\xff")), 400, "protobuf"),
    ],
)
def test_broken_bodies(data: bytes, code: int, words: str) -> None:
    with pytest.raises(StatusError, match=words) as caught:
        decode_protobuf(data)
    assert caught.value.code == code
