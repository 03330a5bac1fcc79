"""The agent against a real API server: authorization, admission, patches, streams."""

import asyncio
import gzip
import io
import ssl
import statistics
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from corral.agent.volumes.source import DRIVER
from corral.kinds import conditions
from corral.kinds.health import SILENT_MACHINE
from corral.kinds.resources import CONFIG_MAPS, EVENTS, LEASES, NODES, PODS
from corral.kinds.types import Obj


def running(pod: Obj) -> bool:
    return bool((pod.get("status") or {}).get("phase") == "Running")


def ready(pod: Obj) -> bool:
    return conditions.is_true(pod, "Ready")


def phase(wanted: str) -> Any:
    return lambda pod: (pod.get("status") or {}).get("phase") == wanted


async def eventually(happened: Callable[[], bool]) -> None:
    """Return when something outside of the API has happened; nothing tells of it, so look again and again."""
    async with asyncio.timeout(5):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def tls(cell: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=cell.ca.decode())
    context.check_hostname = False
    context.load_cert_chain(*cell.certificate)
    return context


async def test_node_and_lease(cell: Any) -> None:
    node = await cell.admin.get(NODES, "m1")
    assert any(item["type"] == "Ready" and item["status"] == "True" for item in node["status"]["conditions"])
    assert node["status"]["capacity"]["pods"] == "250"
    lease = await cell.first(LEASES, "kube-node-lease", lambda obj: True)
    assert lease["spec"]["holderIdentity"] == "m1"


async def test_a_pod_from_create_to_gone(cell: Any) -> None:
    pod = await cell.pod()
    found = await cell.until("web", running)
    assert found["status"]["podIP"]
    assert found["status"]["containerStatuses"][0]["ready"] is True
    assert found["status"]["qosClass"] == "BestEffort"
    token = next(item["name"] for item in pod["spec"]["volumes"] if "projected" in item)
    where = cell.agent.layout.volume(pod["metadata"]["uid"], token)
    assert (where / "token").read_text().count(".") == 2
    assert (where / "ca.crt").read_text() == "CA"
    await cell.admin.delete(PODS, "web", "default", grace=0)
    await cell.gone("web")


async def test_a_readiness_that_was_taken_away_in_silence_comes_back(cell: Any) -> None:
    await cell.pod()
    await cell.until("web", ready)
    away = {"type": "Ready", "status": "False", "reason": SILENT_MACHINE, "message": "the machine is silent"}
    patch = {"status": {"conditions": [away]}}
    await cell.admin.patch(PODS, "web", patch, "default", subresource="status")
    found = await cell.until("web", ready)
    (condition,) = (one for one in found["status"]["conditions"] if one["type"] == "Ready")
    assert not condition.keys() & {"reason", "message"}


async def test_graceful_deletion_waits_for_the_container(cell: Any) -> None:
    pod = await cell.pod()
    await cell.until("web", running)
    await cell.admin.delete(PODS, "web", "default", grace=1)
    await cell.gone("web")
    assert not cell.agent.layout.pod(pod["metadata"]["uid"]).exists()
    assert await cell.runtime.sandboxes() == ()


@pytest.mark.parametrize(("command", "wanted"), [("true", "Succeeded"), ("false", "Failed")])
async def test_a_program_that_ends(cell: Any, command: str, wanted: str) -> None:
    container: Obj = {"name": "main", "image": "host", "command": [command]}
    await cell.pod(restartPolicy="Never", containers=[container])
    await cell.until("web", phase(wanted))


async def test_events_are_recorded(cell: Any) -> None:
    await cell.pod()
    await cell.until("web", running)
    for reason in ("Pulled", "Created", "Started"):
        told = await cell.first(EVENTS, "default", lambda event, reason=reason: event["reason"] == reason)
        assert told["involvedObject"]["name"] == "web"
        assert told["involvedObject"]["fieldPath"] == "spec.containers{main}"


async def test_config_maps_are_followed(cell: Any) -> None:
    metadata = {"name": "paint", "namespace": "default"}
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"color": "red"}}
    await cell.admin.create(CONFIG_MAPS, obj)
    container: Obj = {"name": "main", "image": "host", "command": ["sleep", "9"]}
    container["volumeMounts"] = [{"name": "paint", "mountPath": "/paint"}]
    pod = await cell.pod(volumes=[{"name": "paint", "configMap": {"name": "paint"}}], containers=[container])
    await cell.until("web", running)
    await cell.admin.patch(CONFIG_MAPS, "paint", {"data": {"color": "blue"}}, "default")
    file = cell.agent.layout.volume(pod["metadata"]["uid"], "paint") / "color"
    await eventually(lambda: file.read_text() == "blue")


async def test_logs_and_files_through_the_api_server(cell: Any) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        info = tarfile.TarInfo("in.txt")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"input"))
    digest = cell.sources.add(gzip.compress(raw.getvalue()))
    container: Obj = {"name": "main", "image": "host", "command": ["echo", "hello"]}
    container["volumeMounts"] = [{"name": "work", "mountPath": "/work"}]
    volume = {"name": "work", "csi": {"driver": DRIVER, "volumeAttributes": {"digest": digest}}}
    pod = await cell.pod(restartPolicy="Never", containers=[container], volumes=[volume])
    await cell.until("web", phase("Succeeded"))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls(cell))) as session:
        logs = f"{cell.url}/api/v1/namespaces/default/pods/web/log"
        async with session.get(logs, params={"follow": "true"}) as response:
            assert (response.status, await response.text()) == (200, "hello\n")
        async with session.get(logs, params={"container": "none"}) as response:
            assert response.status >= 400
        async with session.get(logs, params={"previous": "true"}) as response:
            assert response.status == 400
            assert "previous terminated container" in await response.text()
    work = cell.agent.layout.volume(pod["metadata"]["uid"], "work")
    assert (work / "in.txt").read_text() == "input"
    agent = f"https://127.0.0.1:{cell.agent.port}/files/default/web"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls(cell))) as session:
        for query in ({"volume": "work", "path": "in.txt"}, {"container": "main", "path": "/work/in.txt"}):
            async with session.get(agent, params=query) as response:
                assert response.status == 200
                with tarfile.open(fileobj=io.BytesIO(await response.read())) as tar:
                    assert tar.getnames() == ["in.txt"]
        async with session.get(agent, params={"volume": "work", "path": "../../x"}) as response:
            assert response.status == 404


async def test_a_follower_of_a_silent_container_may_leave(cell: Any) -> None:
    await cell.pod()
    await cell.until("web", running)

    def followers() -> int:
        """Log directories that are watched for somebody."""
        return sum("inotify" in str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())

    before = followers()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls(cell))) as session:
        agent = f"https://127.0.0.1:{cell.agent.port}/containerLogs/default/web/main"
        async with session.get(agent, params={"follow": "true"}) as response:
            assert response.status == 200
            await eventually(lambda: followers() == before + 1)
            response.close()
        await eventually(lambda: followers() == before)


async def test_a_container_that_waits_has_no_log_and_says_why(cell: Any) -> None:
    await cell.pod("waits", containers=[{"name": "main", "image": "example.com/none:1"}])
    await cell.until("waits", lambda pod: "ErrImagePull" in str(pod.get("status")))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls(cell))) as session:
        logs = f"{cell.url}/api/v1/namespaces/default/pods/waits/log"
        async with session.get(logs) as response:
            assert response.status == 400
            assert 'container \\"main\\" in pod \\"waits\\" is waiting to start: ' in await response.text()


async def test_strangers_are_turned_away(cell: Any) -> None:
    context = ssl.create_default_context(cadata=cell.ca.decode())
    context.check_hostname = False
    url = f"https://127.0.0.1:{cell.agent.port}"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        async with session.get(f"{url}/healthz") as response:
            assert response.status == 200
        async with session.get(f"{url}/pods") as response:
            assert response.status == 403


async def test_stats_and_metrics(cell: Any) -> None:
    await cell.pod()
    await cell.until("web", running)
    url = f"https://127.0.0.1:{cell.agent.port}"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls(cell))) as session:
        async with session.get(f"{url}/stats/summary") as response:
            summary = await response.json()
        async with session.get(f"{url}/metrics/resource") as response:
            metrics = await response.text()
        async with session.get(f"{url}/pods") as response:
            pods = await response.json()
    assert summary["pods"][0]["podRef"]["name"] == "web"
    assert summary["node"]["nodeName"] == "m1"
    assert 'container_cpu_usage_seconds_total{container="main",namespace="default",pod="web"}' in metrics
    assert [item["metadata"]["name"] for item in pods["items"]] == ["web"]


async def test_a_restarted_agent_adopts_and_reports(cell: Any) -> None:
    await cell.pod("stays")
    await cell.pod("ends", restartPolicy="Never")
    before = await cell.until("stays", running)
    ends = await cell.until("ends", running)
    await cell.agent.stop()
    cell.runtime.finish(ends["status"]["containerStatuses"][0]["containerID"].removeprefix("corral://"), 7)
    cell.agent = cell.build()
    await cell.agent.start()
    ended = await cell.until("ends", phase("Failed"))
    assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7
    after = await cell.admin.get(PODS, "stays", "default")
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]


async def test_many_pods_at_once_and_how_long_one_takes(cell: Any) -> None:
    """Prints the agent's own share of the latency (no containers are made here)."""
    await cell.pod("first")
    await cell.until("first", running)
    took = []
    for index in range(10):
        began = time.perf_counter()
        await cell.pod(f"p{index}")
        await cell.until(f"p{index}", running)
        took.append(time.perf_counter() - began)
    began = time.perf_counter()
    await asyncio.gather(*(cell.pod(f"q{index}") for index in range(20)))
    await asyncio.gather(*(cell.until(f"q{index}", running) for index in range(20)))
    last = time.perf_counter() - began
    print(f"\none pod: p50 {statistics.median(took) * 1000:.1f} ms; 20 at once: last {last * 1000:.0f} ms")
