"""The clients that people use: kubernetes, lightkube and kubectl."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

KUBECTLS = sorted(Path("/usr/lib/google-cloud-sdk/bin").glob("kubectl.1.*")) or [
    Path(found) for found in ("/usr/bin/kubectl", "/usr/local/bin/kubectl") if Path(found).exists()
]

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: nginx, ports: [{containerPort: 80}]}]}
"""


class Kubectl:
    """One kubectl against the running server, in one namespace."""

    def __init__(self, program: Path, kubeconfig: Path, namespace: str, cache: Path) -> None:
        self._base = [str(program), f"--kubeconfig={kubeconfig}", f"--cache-dir={cache}", "-n", namespace]

    def __call__(self, *arguments: str, given: str = "", fails: bool = False) -> str:
        done = subprocess.run(
            [*self._base, "--request-timeout=20s", *arguments], input=given, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(params=KUBECTLS, ids=lambda program: program.name)
def kubectl(request: pytest.FixtureRequest, api: Any, namespace: str, tmp_path: Path) -> Kubectl:
    return Kubectl(request.param, api.kubeconfig, namespace, tmp_path)


def test_kubectl_applies(kubectl: Kubectl) -> None:
    assert "created" in kubectl("apply", "-f", "-", given=DEPLOYMENT)
    assert "unchanged" in kubectl("apply", "-f", "-", given=DEPLOYMENT)
    assert "configured" in kubectl("apply", "-f", "-", given=DEPLOYMENT.replace("replicas: 2", "replicas: 3"))
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "3"
    assert "serverside-applied" in kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=DEPLOYMENT)
    assert "nginx" in kubectl("get", "deploy", "-o", "wide")
    kubectl("scale", "deploy", "web", "--replicas=4")
    kubectl("set", "image", "deploy/web", "c=other")
    assert json.loads(kubectl("get", "deploy", "web", "-o", "json"))["spec"]["replicas"] == 4
    wrong = kubectl("apply", "-f", "-", given=DEPLOYMENT.replace("replicas: 2", "replicaz: 2"), fails=True)
    assert 'unknown field "spec.replicaz"' in wrong
    assert "Replicas" in kubectl("describe", "deploy", "web")
    assert "deleted" in kubectl("delete", "deploy", "web")


def test_kubectl_edits(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "a", "--from-literal=x=y")
    kubectl("label", "cm", "a", "app=one")
    kubectl("annotate", "cm", "a", "note=two")
    assert "configmap/a" in kubectl("get", "cm", "-l", "app=one", "-o", "name")
    kubectl("patch", "cm", "a", "--type=json", "-p", '[{"op":"add","path":"/data/q","value":"1"}]')
    kubectl("patch", "cm", "a", "--type=merge", "-p", '{"data":{"x":null}}')
    kubectl("patch", "cm", "a", "-p", '{"data":{"z":"3"}}')
    assert json.loads(kubectl("get", "cm", "a", "-o", "json"))["data"] == {"q": "1", "z": "3"}
    assert 'configmaps "nothing" not found' in kubectl("get", "cm", "nothing", fails=True)
    kubectl("delete", "cm", "a", "--cascade=orphan", "--wait=false")
    assert kubectl("get", "cm", "a", "-o", "jsonpath={.metadata.finalizers[0]}") == "orphan"


def test_kubectl_creates(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "d", "--image=nginx", "--replicas=0", "--port=80")
    created = json.loads(kubectl("get", "deploy", "d", "-o", "json"))["spec"]
    assert (created["replicas"], created["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]) == (0, 80)
    kubectl("create", "job", "j", "--image=x", "--", "sh", "-c", "true")
    assert kubectl("get", "job", "j", "-o", "jsonpath={.spec.template.spec.restartPolicy}") == "Never"
    kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    assert kubectl("get", "secret", "s", "-o", "jsonpath={.data.a}") == "Yg=="
    kubectl("create", "role", "r", "--verb=get", "--resource=pods")
    kubectl("create", "rolebinding", "rb", "--role=r", "--serviceaccount=default:default")
    kubectl("create", "quota", "q", "--hard=cpu=1,memory=1Gi")
    kubectl("create", "service", "clusterip", "svc", "--tcp=80:8080")
    kubectl("run", "p", "--image=x")
    assert kubectl("delete", "pod", "p", "--now")
    assert kubectl("create", "token", "default").count(".") == 2


def test_kubectl_asks(kubectl: Kubectl) -> None:
    assert "v1.36.0" in kubectl("version")
    assert "deployments" in kubectl("api-resources")
    assert "apps/v1" in kubectl("api-versions")
    assert "imagePullPolicy" in kubectl("explain", "pod.spec.containers")
    assert "yes" in kubectl("auth", "can-i", "create", "pods")
    assert "no" in kubectl("auth", "can-i", "create", "pods", "--as=jane", fails=True)
    assert "*.*" in kubectl("auth", "can-i", "--list")
    for name in ("a", "b", "c"):
        kubectl("create", "configmap", name)
    assert kubectl("get", "cm", "--chunk-size=1", "-o", "name").split() == [f"configmap/{name}" for name in "abc"]


def test_the_kubernetes_client(api: Any, namespace: str) -> None:
    import importlib

    # Untyped in parts and wrongly typed in others: used as its users do, without types.
    config, watch, client = (importlib.import_module(f"kubernetes.{name}") for name in ("config", "watch", "client"))
    core: Any = client.CoreV1Api(config.new_client_from_config(str(api.kubeconfig)))
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "a"}, "data": {"k": "v"}})
    assert core.read_namespaced_config_map("a", namespace).data == {"k": "v"}
    core.patch_namespaced_config_map("a", namespace, {"data": {"k": "w"}})
    events = watch.Watch().stream(core.list_namespaced_config_map, namespace, timeout_seconds=1)
    assert [(event["type"], event["object"].data) for event in events] == [("ADDED", {"k": "w"})]
    assert core.list_namespaced_config_map(namespace, limit=1).items[0].metadata.name == "a"
    core.delete_namespaced_config_map("a", namespace)
    with pytest.raises(client.exceptions.ApiException) as refused:
        core.read_namespaced_config_map("a", namespace)
    assert refused.value.status == 404


def test_lightkube(api: Any, namespace: str) -> None:
    from lightkube import Client, KubeConfig
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap

    client = Client(config=KubeConfig.from_file(str(api.kubeconfig)), field_manager="lightkube")
    client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace=namespace), data={"k": "v"}))
    assert client.get(ConfigMap, "a", namespace=namespace).data == {"k": "v"}
    applied = ConfigMap(
        apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="b", namespace=namespace), data={"x": "y"}
    )
    assert client.apply(applied).data == {"x": "y"}
    assert [found.metadata and found.metadata.name for found in client.list(ConfigMap, namespace=namespace)] == [
        "a",
        "b",
    ]
    client.delete(ConfigMap, "a", namespace=namespace)


def test_openapi_is_served(http_as: Any) -> None:
    index = http_as("GET", "/openapi/v3").json["paths"]
    assert "apis/apps/v1" in index
    assert http_as("GET", "/openapi/v3/apis/apps/v1").json["openapi"].startswith("3.")
    whole = http_as("GET", "/openapi/v2")
    assert whole.json["swagger"] == "2.0"
    assert http_as("GET", "/openapi/v2", headers={"If-None-Match": whole.headers["ETag"]}).status == 304
    protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    assert http_as("GET", "/openapi/v2", headers={"Accept": protobuf}).headers["Content-Type"] == protobuf.replace(
        "@", "."
    )
    assert http_as("GET", "/openapi/v3", headers={"Accept": protobuf}).status == 406


def test_discovery(http_as: Any) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    answer = http_as("GET", "/apis", headers={"Accept": accept})
    assert answer.headers["Content-Type"] == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    groups = {item["metadata"]["name"]: item for item in answer.json["items"]}
    assert {"apps", "batch", "corral.dev"} <= groups.keys()
    assert http_as("GET", "/apis", headers={"Accept": accept, "If-None-Match": answer.headers["ETag"]}).status == 304
    assert http_as("GET", "/api").json["versions"] == ["v1"]
    names = {resource["name"] for resource in http_as("GET", "/api/v1").json["resources"]}
    assert {"pods", "pods/log", "pods/binding", "namespaces/finalize"} <= names


def test_metrics(http_as: Any) -> None:
    text = http_as("GET", "/metrics").body.decode()
    assert 'apiserver_request_total{verb="create",resource="namespaces",code="201"}' in text
    assert "apiserver_request_duration_seconds_bucket" in text
    assert "corral_store_revision" in text
