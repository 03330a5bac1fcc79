"""Every kubectl on this machine against a cell with real containers."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Cell, kubectls

BINARIES = kubectls() or [""]
ROOT = Path(__file__).parents[3]

each_kubectl = pytest.mark.parametrize("binary", BINARIES, ids=[Path(binary).name or "none" for binary in BINARIES])


@pytest.fixture
def namespace(cell: Cell, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one test; deleting it is part of the test of namespaces."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]
    cell.kubectl("create", "namespace", name)
    yield name
    cell.kubectl("delete", "namespace", name, "--wait=true", "--timeout=60s")


@each_kubectl
def test_a_deployment_lives_its_life(cell: Cell, namespace: str, binary: str) -> None:
    def kubectl(*arguments: str, stdin: str | None = None, check: bool = True) -> str:
        return cell.kubectl("-n", namespace, *arguments, binary=binary, stdin=stdin, check=check).stdout

    # As process 1, sleep alone would ignore SIGTERM and take all of its grace.
    serve = ("sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")
    kubectl("create", "deployment", "web", "--image=host", "--replicas=2", "--", *serve)
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    table = kubectl("get", "deployment", "web")
    assert table.splitlines()[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert table.splitlines()[1].split()[:4] == ["web", "2/2", "2", "2"]
    kubectl("scale", "deployment/web", "--replicas=1")
    kubectl("set", "env", "deployment/web", "COLOUR=blue")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert "COLOUR" in kubectl("describe", "deployment", "web")
    assert len(kubectl("rollout", "history", "deployment/web").strip().splitlines()) >= 4
    kubectl("rollout", "undo", "deployment/web")
    kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert "COLOUR" not in kubectl("get", "deployment", "web", "-o", "yaml")
    assert kubectl("get", "deploy,rs,pods", "-o", "name").startswith("deployment.apps/web\n")
    kubectl("delete", "deployment", "web", "--cascade=foreground", "--timeout=60s")
    assert kubectl("get", "all") == ""


@each_kubectl
def test_a_job_completes_and_its_log_stays(cell: Cell, namespace: str, binary: str) -> None:
    def kubectl(*arguments: str) -> str:
        return cell.kubectl("-n", namespace, *arguments, binary=binary).stdout

    kubectl("create", "job", "count", "--image=host", "--", "sh", "-c", "seq 5")
    kubectl("wait", "--for=condition=complete", "job/count", "--timeout=60s")
    assert kubectl("logs", "job/count") == "1\n2\n3\n4\n5\n"
    assert kubectl("logs", "job/count", "--tail=2") == "4\n5\n"
    assert kubectl("get", "job", "count", "-o", "jsonpath={.status.succeeded}") == "1"
    assert "Completed" in kubectl("get", "pods")
    assert "Complete" in kubectl("describe", "job", "count")


@each_kubectl
def test_exec_copy_and_logs_of_a_running_pod(cell: Cell, namespace: str, binary: str, tmp_path: Path) -> None:
    def kubectl(*arguments: str, stdin: str | None = None, check: bool = True) -> str:
        result = cell.kubectl("-n", namespace, *arguments, binary=binary, stdin=stdin, check=False)
        assert not check or result.returncode == 0, result.stderr
        return result.stdout if check else str(result.returncode)

    kubectl("run", "box", "--image=host", "--restart=Always", "--", "sh", "-c", "echo up; sleep 1000")
    kubectl("wait", "--for=condition=ready", "pod/box", "--timeout=60s")
    assert kubectl("logs", "box") == "up\n"
    assert kubectl("exec", "box", "--", "echo", "hi") == "hi\n"
    assert kubectl("exec", "-i", "box", "--", "cat", stdin="through\n") == "through\n"
    assert kubectl("exec", "box", "--", "sh", "-c", "exit 7", check=False) == "7"
    (tmp_path / "there").write_text("x" * 100_000)
    kubectl("cp", str(tmp_path / "there"), "box:/tmp/there")
    kubectl("cp", "box:/tmp/there", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "x" * 100_000
    assert "Started" in kubectl("events", "--for", "pod/box")
    kubectl("delete", "pod", "box", "--grace-period=1")


@each_kubectl
def test_apply_patch_label_and_explain(cell: Cell, namespace: str, binary: str) -> None:
    def kubectl(*arguments: str, stdin: str | None = None) -> str:
        return cell.kubectl("-n", namespace, *arguments, binary=binary, stdin=stdin).stdout

    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: '1', b: '2'}\n"
    assert "created" in kubectl("apply", "-f", "-", stdin=manifest)
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=manifest)
    assert "configured" in kubectl("apply", "-f", "-", stdin=manifest.replace("b: '2'", "c: '3'"))
    assert kubectl("get", "cm", "c", "-o", "jsonpath={.data}") == '{"a":"1","c":"3"}'
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
    kubectl("patch", "cm", "c", "--type=merge", "-p", '{"data":{"d":"4"}}')
    kubectl("patch", "cm", "c", "--type=json", "-p", '[{"op":"remove","path":"/data/a"}]')
    kubectl("label", "cm", "c", "tier=x")
    kubectl("annotate", "cm", "c", "note=y")
    assert kubectl("get", "cm", "-l", "tier=x", "-o", "name") == "configmap/c\n"
    assert kubectl("auth", "can-i", "delete", "pods") == "yes\n"
    assert "FIELDS" in kubectl("explain", "pod.spec.containers")
    assert re.search(r"^deployments +deploy +apps/v1 +true +Deployment", kubectl("api-resources"), re.MULTILINE)
    assert kubectl("create", "token", "default").count(".") == 2
    assert json.loads(kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"].startswith("v1.36")


def test_the_manifest_of_the_examples(cell: Cell, namespace: str) -> None:
    path = str(ROOT / "examples" / "manifests" / "hello.yaml")
    cell.kubectl("-n", namespace, "apply", "-f", path)
    cell.kubectl("-n", namespace, "rollout", "status", "deployment/hello", "--timeout=60s")
    pods = cell.get("pods", "-n", namespace, "-l", "app=hello")["items"]
    script = "import urllib.request as r, sys; print(r.urlopen(sys.argv[1]).read().decode(), end='')"
    url = f"http://{pods[0]['status']['podIP']}:8080/"
    name = pods[1]["metadata"]["name"]
    answer = cell.kubectl("-n", namespace, "exec", name, "--", "python3", "-c", script, url).stdout
    assert answer == f"hello from {pods[0]['metadata']['name']}\n"


def test_bad_manifests_name_the_field(cell: Cell, namespace: str) -> None:
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers: [{name: c, image: host, %s}]\n"
    for field, word in [
        ("imagee: x", 'unknown field "spec.containers[0].imagee"'),
        ("resources: {requests: {cpu: lots}}", "resources.requests"),
        ("ports: [{containerPort: 99999}]", "spec.containers[0].ports[0].containerPort"),
    ]:
        result = cell.kubectl("-n", namespace, "apply", "--validate=ignore", "-f", "-", stdin=pod % field, check=False)
        strict = cell.kubectl("-n", namespace, "create", "-f", "-", stdin=pod % field, check=False)
        assert strict.returncode == 1
        assert word in strict.stderr + result.stderr, (strict.stderr, result.stderr)
        cell.kubectl("-n", namespace, "delete", "pod", "p", "--ignore-not-found", "--grace-period=0", "--force")


def test_limits_are_enforced_and_told(cell: Cell, namespace: str) -> None:
    manifest = """
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers:
    - name: c
      image: host
      command: [python3, -c, "x = bytearray(300_000_000)"]
      resources: {limits: {memory: 64Mi, cpu: 500m}}
"""
    cell.kubectl("-n", namespace, "apply", "-f", "-", stdin=manifest)
    cell.kubectl("-n", namespace, "wait", "--for=jsonpath={.status.phase}=Failed", "pod/greedy", "--timeout=60s")
    ended = cell.get("pod", "greedy", "-n", namespace)["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_an_image_from_an_archive(cell: Cell, namespace: str, tmp_path: Path) -> None:
    archive = build_image(tmp_path)
    cell.corral("image", "load", "--as", "example/box:1", str(archive))
    cell.kubectl(
        *("-n", namespace, "run", "boxed", "--image=example/box:1", "--image-pull-policy=Never", "--restart=Never"),
        *("--", "/bin/busybox", "echo", "from an image"),
    )
    cell.kubectl("-n", namespace, "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/boxed", "--timeout=60s")
    assert cell.kubectl("-n", namespace, "logs", "boxed").stdout == "from an image\n"


def build_image(directory: Path) -> Path:
    """An OCI archive with nothing but busybox in it."""
    layout, bundle, archive = directory / "layout", directory / "bundle", directory / "box.tar"

    def umoci(*arguments: str) -> None:
        subprocess.run(["umoci", *arguments], check=True, capture_output=True)

    umoci("init", "--layout", str(layout))
    umoci("new", "--image", f"{layout}:1")
    umoci("unpack", "--image", f"{layout}:1", str(bundle))
    (bundle / "rootfs" / "bin").mkdir()
    shutil.copy("/bin/busybox", bundle / "rootfs" / "bin" / "busybox")
    umoci("repack", "--image", f"{layout}:1", str(bundle))
    subprocess.run(["tar", "-C", str(layout), "-cf", str(archive), "."], check=True)
    return archive
