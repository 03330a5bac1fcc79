"""Pods reach each other, the machine reaches them, and host ports lead to them."""

import asyncio
import socket
from pathlib import Path

from corral.agent.runtime.api import PortMapping, SandboxSpec
from corral.agent.runtime.oci import OciRuntime
from corral.testing.runtime_suite import PATIENCE, Pod, make_pod, text

_SERVE = "import socket; s = socket.create_server(('', 8080))\nwhile True: s.accept()[0].send(b'hi')"


async def _serving(pod: Pod) -> None:
    """Run a server that says hi on port 8080, and wait until it listens."""
    spec = pod.spec("/usr/bin/python3", "-c", _SERVE)
    await pod.run(spec)
    process = await pod.runtime.exec(spec.id, ["sh", "-c", "until grep -q :1F90 /proc/net/tcp; do sleep 0.01; done"])
    async with asyncio.timeout(PATIENCE):
        assert await process.wait() == 0
    await process.close()


async def _greeting(address: str, port: int) -> bytes:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(address, port)
        greeting = await reader.read(2)
        writer.close()
    return greeting


async def test_two_pods_and_the_machine(runtime: OciRuntime, tmp_path: Path) -> None:
    first, second = await asyncio.gather(make_pod(runtime, tmp_path), make_pod(runtime, tmp_path))
    assert first.sandbox.addresses != second.sandbox.addresses
    await _serving(first)
    address = first.sandbox.addresses[0]
    assert await _greeting(address, 8080) == b"hi"
    spec = second.spec("sleep", "inf")
    await second.run(spec)
    script = f"import socket; print(socket.create_connection(('{address}', 8080)).recv(2).decode())"
    process = await runtime.exec(spec.id, ["/usr/bin/python3", "-c", script])
    assert await text(process.stdout()) == "hi\n"
    await process.close()


async def test_a_host_port_leads_to_the_pod(runtime: OciRuntime, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spec = SandboxSpec("", "", "default", "pod", "pod", ports=(PortMapping(port, 8080),))
    pod = await make_pod(runtime, tmp_path, spec)
    await _serving(pod)
    assert await _greeting("127.0.0.1", port) == b"hi"
    await runtime.remove_sandbox(pod.sandbox.id)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_twenty_pods_at_once_get_twenty_addresses(runtime: OciRuntime, tmp_path: Path) -> None:
    pods = await asyncio.gather(*(make_pod(runtime, tmp_path) for _ in range(20)))
    assert len({pod.sandbox.addresses[0] for pod in pods}) == 20
