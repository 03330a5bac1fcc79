"""The verbs over plain HTTP, on every store."""

from typing import Any

import pytest
import yaml

CM = {"metadata": {"name": "a", "labels": {"app": "x"}}, "data": {"k": "v"}}
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def path(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps" + (f"/{name}" if name else "")


def test_create_get_update_delete(http_as: Any, namespace: str) -> None:
    made = http_as("POST", path(namespace), CM)
    assert made.status == 201
    obj = made.json
    assert {"uid", "creationTimestamp", "resourceVersion", "managedFields"} <= obj["metadata"].keys()
    assert http_as("GET", path(namespace, "a")).json == obj
    obj["data"]["k"] = "w"
    updated = http_as("PUT", path(namespace, "a"), obj)
    assert updated.status == 200
    assert int(updated.json["metadata"]["resourceVersion"]) > int(obj["metadata"]["resourceVersion"])
    gone = http_as("DELETE", path(namespace, "a"))
    assert (gone.status, gone.json["status"]) == (200, "Success")
    assert gone.json["details"]["uid"] == obj["metadata"]["uid"]
    assert http_as("GET", path(namespace, "a")).json["message"] == 'configmaps "a" not found'


def test_create_twice(http_as: Any, namespace: str) -> None:
    http_as("POST", path(namespace), CM)
    again = http_as("POST", path(namespace), CM)
    assert (again.status, again.json["reason"]) == (409, "AlreadyExists")


def test_an_update_that_changes_nothing_writes_nothing(http_as: Any, namespace: str) -> None:
    obj = http_as("POST", path(namespace), CM).json
    assert http_as("PUT", path(namespace, "a"), obj).json == obj


def test_a_stale_update_is_refused(http_as: Any, namespace: str) -> None:
    obj = http_as("POST", path(namespace), CM).json
    http_as("PUT", path(namespace, "a"), {**obj, "data": {"k": "2"}})
    stale = http_as("PUT", path(namespace, "a"), {**obj, "data": {"k": "3"}})
    assert (stale.status, stale.json["reason"]) == (409, "Conflict")
    assert "the object has been modified" in stale.json["message"]


@pytest.mark.parametrize(
    ("content_type", "body", "data"),
    [
        ("application/json-patch+json", [{"op": "add", "path": "/data/n", "value": "1"}], {"k": "v", "n": "1"}),
        ("application/merge-patch+json", {"data": {"k": None, "n": "1"}}, {"n": "1"}),
        ("application/strategic-merge-patch+json", {"data": {"n": "1"}}, {"k": "v", "n": "1"}),
    ],
)
def test_patches(http_as: Any, namespace: str, content_type: str, body: object, data: object) -> None:
    http_as("POST", path(namespace), CM)
    patched = http_as("PATCH", path(namespace, "a"), body, headers={"Content-Type": content_type})
    assert (patched.status, patched.json["data"]) == (200, data)


def test_a_patch_with_a_stale_revision_is_refused(http_as: Any, namespace: str) -> None:
    http_as("POST", path(namespace), CM)
    body = {"metadata": {"resourceVersion": "1"}, "data": {"k": "2"}}
    headers = {"Content-Type": "application/merge-patch+json"}
    assert http_as("PATCH", path(namespace, "a"), body, headers=headers).status == 409


def test_apply_makes_and_owns(http_as: Any, namespace: str) -> None:
    headers = {"Content-Type": "application/apply-patch+yaml"}
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: v}\n"
    made = http_as("PATCH", path(namespace, "a") + "?fieldManager=one", body, headers=headers)
    assert made.status == 201
    other = http_as("PATCH", path(namespace, "a") + "?fieldManager=two", body.replace(b"v}", b"w}"), headers=headers)
    assert other.status == 409
    assert other.json["details"]["causes"][0]["reason"] == "FieldManagerConflict"
    forced = http_as(
        "PATCH", path(namespace, "a") + "?fieldManager=two&force=true", body.replace(b"v}", b"w}"), headers=headers
    )
    assert (forced.status, forced.json["data"]) == (200, {"k": "w"})
    assert http_as("PATCH", path(namespace, "a"), body, headers=headers).status == 400


def test_dry_run_writes_nothing(http_as: Any, namespace: str) -> None:
    assert http_as("POST", path(namespace) + "?dryRun=All", CM).status == 201
    assert http_as("GET", path(namespace, "a")).status == 404
    http_as("POST", path(namespace), CM)
    assert http_as("DELETE", path(namespace, "a") + "?dryRun=All").status == 200
    assert http_as("GET", path(namespace, "a")).status == 200
    assert http_as("POST", path(namespace) + "?dryRun=Some", CM).status == 422


def test_generated_names(http_as: Any, namespace: str) -> None:
    name = http_as("POST", path(namespace), {"metadata": {"generateName": "g-"}}).json["metadata"]["name"]
    assert name.startswith("g-")
    assert len(name) == 7


def test_lists_and_pages(http_as: Any, namespace: str) -> None:
    for name in "abcde":
        http_as("POST", path(namespace), {"metadata": {"name": name, "labels": {"odd": str(name in "ace")}}})
    whole = http_as("GET", path(namespace)).json
    assert whole["kind"] == "ConfigMapList"
    assert [item["metadata"]["name"] for item in whole["items"]] == list("abcde")
    first = http_as("GET", path(namespace) + "?limit=2").json
    assert first["metadata"]["remainingItemCount"] == 3
    http_as("DELETE", path(namespace, "e"))
    token = first["metadata"]["continue"]
    rest = http_as("GET", path(namespace) + f"?limit=5&continue={token}").json
    assert [item["metadata"]["name"] for item in rest["items"]] == list("cde")
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    odd = http_as("GET", path(namespace) + "?labelSelector=odd%3DTrue&limit=1").json
    assert [item["metadata"]["name"] for item in odd["items"]] == ["a"]
    one = http_as("GET", path(namespace) + "?fieldSelector=metadata.name%3Db").json
    assert [item["metadata"]["name"] for item in one["items"]] == ["b"]
    assert http_as("GET", path(namespace) + "?fieldSelector=data.k%3Db").status == 400
    assert http_as("GET", path(namespace) + "?continue=nonsense").status == 400
    assert http_as("GET", path(namespace) + "?resourceVersion=99999999").json["reason"] == "Timeout"


def test_delete_collection(http_as: Any, namespace: str) -> None:
    for name in "abc":
        http_as("POST", path(namespace), {"metadata": {"name": name, "labels": {"keep": str(name == "c")}}})
    assert http_as("DELETE", path(namespace) + "?labelSelector=keep%3DFalse").status == 200
    assert [item["metadata"]["name"] for item in http_as("GET", path(namespace)).json["items"]] == ["c"]


def test_representations(http_as: Any, namespace: str) -> None:
    http_as("POST", path(namespace), CM)
    table = http_as("GET", path(namespace), headers={"Accept": f"{TABLE},application/json"}).json
    assert (table["kind"], table["rows"][0]["cells"][0]) == ("Table", "a")
    partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    found = http_as("GET", path(namespace, "a"), headers={"Accept": partial}).json
    assert found["kind"] == "PartialObjectMetadata"
    assert "data" not in found
    text = http_as("GET", path(namespace, "a"), headers={"Accept": "application/yaml"})
    assert yaml.safe_load(text.body)["data"] == {"k": "v"}
    assert http_as("GET", path(namespace), headers={"Accept": "text/html"}).status == 406
    made = http_as("POST", path(namespace), b"metadata: {name: y}\n", headers={"Content-Type": "application/yaml"})
    assert made.status == 201


def test_finalizers_hold_an_object(http_as: Any, namespace: str) -> None:
    http_as("POST", path(namespace), {"metadata": {"name": "a", "finalizers": ["x.org/hold"]}})
    marked = http_as("DELETE", path(namespace, "a")).json
    assert marked["metadata"]["deletionTimestamp"]
    body = {"metadata": {"finalizers": None}}
    freed = http_as("PATCH", path(namespace, "a"), body, headers={"Content-Type": "application/merge-patch+json"})
    assert freed.status == 200
    assert http_as("GET", path(namespace, "a")).status == 404


def test_preconditions_and_propagation(http_as: Any, namespace: str) -> None:
    http_as("POST", path(namespace), CM)
    assert http_as("DELETE", path(namespace, "a"), {"preconditions": {"uid": "other"}}).status == 409
    assert http_as("DELETE", path(namespace, "a"), {"preconditions": {"resourceVersion": "1"}}).status == 409
    marked = http_as("DELETE", path(namespace, "a"), {"propagationPolicy": "Foreground"}).json
    assert marked["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert http_as("DELETE", path(namespace, "a") + "?propagationPolicy=Nonsense").status == 422


def pod(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}


def test_pods_bind_once_and_end_gracefully(http_as: Any, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    made = http_as("POST", pods, pod("p"))
    assert made.status == 201, made.body
    spec = made.json["spec"]
    assert spec["serviceAccountName"] == "default"
    assert spec["volumes"][0]["name"].startswith("kube-api-access-")
    assert {toleration["key"] for toleration in spec["tolerations"]} >= {"node.kubernetes.io/not-ready"}
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    owners = http_as("GET", f"{pods}/p").json["metadata"]["managedFields"]
    assert http_as("POST", f"{pods}/p/binding", binding).status == 201
    assert http_as("GET", f"{pods}/p").json["metadata"]["managedFields"] == owners
    assert http_as("POST", f"{pods}/p/binding", binding).status == 409
    bound = http_as("GET", f"{pods}/p").json
    assert bound["spec"]["nodeName"] == "n1"
    assert bound["status"]["conditions"][0]["type"] == "PodScheduled"
    ending = http_as("DELETE", f"{pods}/p").json
    assert ending["metadata"]["deletionGracePeriodSeconds"] == 30
    http_as("DELETE", f"{pods}/p", {"gracePeriodSeconds": 0})
    assert http_as("GET", f"{pods}/p").status == 404
    http_as("POST", pods, pod("q"))
    http_as("DELETE", f"{pods}/q")
    assert http_as("GET", f"{pods}/q").status == 404


def test_status_and_spec_do_not_mix(http_as: Any, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    made = http_as("POST", pods, {**pod("p"), "status": {"phase": "Running"}}).json
    assert made["status"]["phase"] == "Pending"
    body = {**made, "status": {"phase": "Running"}}
    body["spec"] = {**made["spec"], "nodeName": "elsewhere"}
    after = http_as("PUT", f"{pods}/p/status", body).json
    assert after["status"]["phase"] == "Running"
    assert "nodeName" not in after["spec"]


def test_evictions_respect_budgets(http_as: Any, namespace: str) -> None:
    pods = f"/api/v1/namespaces/{namespace}/pods"
    made = http_as("POST", pods, pod("p")).json
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    http_as("PUT", f"{pods}/p/status", {**made, "status": ready})
    budgets = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    budget = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}}
    budget = http_as("POST", budgets, budget).json
    counts = {"currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1, "observedGeneration": 1}
    put = http_as("PUT", f"{budgets}/b/status", {**budget, "status": {**counts, "disruptionsAllowed": 0}})
    assert put.status == 200, put.body
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    assert http_as("POST", f"{pods}/p/eviction", eviction).status == 429
    budget = http_as("GET", f"{budgets}/b").json
    http_as("PUT", f"{budgets}/b/status", {**budget, "status": {**counts, "disruptionsAllowed": 1}})
    assert http_as("POST", f"{pods}/p/eviction", eviction).status == 201
    assert http_as("GET", f"{pods}/p").status == 404


def test_scale(http_as: Any, namespace: str) -> None:
    deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "x"}}, "template": template}
    made = http_as("POST", deployments, {"metadata": {"name": "d"}, "spec": spec})
    assert made.status == 201, made.body
    scale = http_as("GET", f"{deployments}/d/scale").json
    assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == ("Scale", {"replicas": 2}, "app=x")
    scale["spec"]["replicas"] = 5
    assert http_as("PUT", f"{deployments}/d/scale", scale).json["spec"] == {"replicas": 5}
    found = http_as("GET", f"{deployments}/d").json
    assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (5, 2)
    assert http_as("PUT", f"{deployments}/d/scale", {"spec": {"replicas": -1}}).status == 422


def test_namespaces(http_as: Any) -> None:
    pods = "/api/v1/namespaces/missing/pods"
    assert http_as("POST", pods, pod("p")).status == 404
    assert http_as("DELETE", "/api/v1/namespaces/kube-system").status == 403
    http_as("POST", "/api/v1/namespaces", {"metadata": {"name": "ending"}})
    ending = http_as("DELETE", "/api/v1/namespaces/ending").json
    assert ending["status"]["phase"] == "Terminating"
    refused = http_as("POST", "/api/v1/namespaces/ending/configmaps", CM)
    assert (refused.status, refused.json["reason"]) == (403, "Forbidden")
    ending["spec"]["finalizers"] = []
    assert http_as("PUT", "/api/v1/namespaces/ending/finalize", ending).status == 200
    assert http_as("GET", "/api/v1/namespaces/ending").status == 404


def test_events_are_one_collection_in_two_groups(http_as: Any, namespace: str) -> None:
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": namespace},
        "reason": "Because",
        "message": "said",
        "type": "Normal",
    }
    made = http_as("POST", f"/api/v1/namespaces/{namespace}/events", event)
    assert made.status == 201, made.body
    found = http_as("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/e").json
    assert (found["note"], found["regarding"]["name"]) == ("said", "p")


CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def definition(group: str, plural: str, kind: str, *short: str, **subresources: Any) -> dict[str, Any]:
    size = {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1}}}
    status = {"type": "object", "properties": {"seen": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"spec": size, "status": status}}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": subresources,
    }
    names = {"plural": plural, "kind": kind, "singular": kind.lower(), "listKind": f"{kind}List", "shortNames": short}
    return {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def reported(http_as: Any, name: str) -> dict[str, str]:
    """Conditions of a definition, as soon as there are any."""
    for _ in range(100):
        found = http_as("GET", f"{CRDS}/{name}").json.get("status", {}).get("conditions")
        if found:
            return {condition["type"]: condition["status"] for condition in found}
    raise AssertionError(f"no conditions of {name}")


def served(http_as: Any, url: str, *, yes: bool) -> bool:
    return any((http_as("GET", url).status == 200) == yes for _ in range(100))


def test_custom_kinds(http_as: Any, namespace: str) -> None:
    group = f"{namespace}.example.org"
    made = http_as("POST", CRDS, definition(group, "widgets", "Widget"))
    assert made.status == 201, made.body
    assert reported(http_as, f"widgets.{group}")["Established"] == "True"
    widgets = f"/apis/{group}/v1/namespaces/{namespace}/widgets"
    assert http_as("POST", widgets, {"metadata": {"name": "w"}, "spec": {"size": 3}}).status == 201
    assert http_as("POST", widgets, {"metadata": {"name": "v"}, "spec": {"size": 0}}).status == 422
    assert http_as("GET", widgets).json["kind"] == "WidgetList"
    http_as("DELETE", f"{CRDS}/widgets.{group}")
    assert served(http_as, widgets, yes=False)


def test_a_custom_kind_whose_name_is_taken_waits_for_it(http_as: Any, namespace: str) -> None:
    group = f"{namespace}.example.org"
    assert http_as("POST", CRDS, definition(group, "widgets", "Widget", "w")).status == 201
    assert reported(http_as, f"widgets.{group}")["NamesAccepted"] == "True"
    assert http_as("POST", CRDS, definition(group, "wagons", "Wagon", "w")).status == 201
    assert reported(http_as, f"wagons.{group}") == {"NamesAccepted": "False", "Established": "False"}
    status = http_as("GET", f"{CRDS}/wagons.{group}").json["status"]
    assert f"already in use by widgets.{group}" in status["conditions"][0]["message"]
    wagons = f"/apis/{group}/v1/namespaces/{namespace}/wagons"
    assert http_as("GET", wagons).status == 404
    http_as("DELETE", f"{CRDS}/widgets.{group}")
    assert served(http_as, wagons, yes=True)
    http_as("DELETE", f"{CRDS}/wagons.{group}")
    assert served(http_as, wagons, yes=False)


def test_apply_owns_only_what_its_endpoint_writes(http_as: Any, namespace: str) -> None:
    group = f"{namespace}.example.org"
    http_as("POST", CRDS, definition(group, "widgets", "Widget", status={}))
    reported(http_as, f"widgets.{group}")
    widget = f"/apis/{group}/v1/namespaces/{namespace}/widgets/w"
    config = {
        "apiVersion": f"{group}/v1",
        "kind": "Widget",
        "metadata": {"name": "w", "labels": {"a": "b"}},
        "spec": {"size": 3},
        "status": {"seen": 1},
    }
    headers = {"Content-Type": "application/apply-patch+yaml"}
    made = http_as("PATCH", f"{widget}?fieldManager=one", config, headers=headers)
    assert made.status == 201, made.body
    assert "status" not in made.json
    assert made.json["metadata"]["managedFields"][0]["fieldsV1"].keys() == {"f:metadata", "f:spec"}
    told = http_as("PATCH", f"{widget}/status?fieldManager=two", config, headers=headers)
    assert told.status == 200, told.body
    assert told.json["status"] == {"seen": 1}
    owned = {entry["manager"]: entry["fieldsV1"] for entry in told.json["metadata"]["managedFields"]}
    assert owned["two"] == {"f:status": {"f:seen": {}}}
    http_as("DELETE", f"{CRDS}/widgets.{group}")


def test_a_generated_name_reaches_what_is_derived_from_it(http_as: Any, namespace: str) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    job = {"metadata": {"generateName": "j-"}, "spec": {"template": {"spec": pod}}}
    made = http_as("POST", f"/apis/batch/v1/namespaces/{namespace}/jobs", job)
    assert made.status == 201, made.body
    labels = made.json["spec"]["template"]["metadata"]["labels"]
    assert labels["job-name"] == labels["batch.kubernetes.io/job-name"] == made.json["metadata"]["name"]


def test_impersonation(api: Any, http_as: Any, namespace: str) -> None:
    headers = {"Impersonate-User": "jane"}
    assert http_as("GET", path(namespace), headers=headers).status == 403
    assert http_as("GET", path(namespace), headers={**headers, "Impersonate-Group": "system:masters"}).status == 200
    token = api.token("default")
    assert http_as("GET", path(namespace), token=token, headers=headers).status == 403


def test_uploads_are_verified(http_as: Any, namespace: str) -> None:
    import hashlib

    data = b"an archive"
    digest = hashlib.sha256(data).hexdigest()
    sources = f"/apis/corral.dev/v1/namespaces/{namespace}/sources"
    assert http_as("HEAD", f"{sources}/{digest}").status == 404
    assert http_as("PUT", f"{sources}/{digest}", data).status == 201
    assert http_as("PUT", f"{sources}/{digest}", data).status == 200
    assert http_as("GET", f"{sources}/{digest}").body == data
    assert http_as("PUT", f"{sources}/{'0' * 64}", data).status == 400
    assert http_as("GET", f"{sources}/..%2f..%2fetc").status == 400
    assert http_as("PUT", f"{sources}/{digest}", b"x" * (2 << 20)).status == 413
    assert http_as("GET", f"{sources}/{digest}", token="").status == 403
