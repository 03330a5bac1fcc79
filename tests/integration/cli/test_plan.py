"""`corral plan` as a person types it, against a whole cell without an agent."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from corral.apiserver.auth.api import User
from corral.apiserver.auth.pki import MASTERS
from corral.apiserver.inprocess import InProcessTransport
from corral.app.cell import running_cell
from corral.app.config import CellConfig, prepare_data_dir
from corral.client.client import Client
from corral.kinds.resources import NODES, PODS
from corral.kinds.types import Obj
from corral.testing.scheduling import node

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: host, resources: {requests: {cpu: "1"}}}]
"""


class Cell:
    """A whole cell in this process, and commands in processes of their own."""

    def __init__(self, data_dir: Path, client: Client) -> None:
        self.client = client
        self._data_dir = data_dir

    async def corral(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """The exit code, stdout and stderr of `corral ARGUMENTS`."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "corral", *arguments, "--data-dir", str(self._data_dir)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[Cell]:
    config = CellConfig(tmp_path / "cell", host="127.0.0.1", port=0, agent=False)
    prepare_data_dir(config)
    async with running_cell(config, lambda name, what, seconds: None) as running:
        client = Client(InProcessTransport(running.server, User("admin", (MASTERS,))))
        for name in ("a", "b"):
            await client.create(NODES, node(name, cpu="2"))
        yield Cell(config.data_dir, client)


async def test_a_plan_that_fits_and_one_that_does_not(cell: Cell, tmp_path: Path) -> None:
    manifest = tmp_path / "web.yaml"
    manifest.write_text(WEB)
    code, out, err = await cell.corral("plan", "-f", str(manifest))
    assert code == 0, err
    assert out.splitlines()[0].split() == ["WORKLOAD", "PODS", "MACHINES", "PREEMPTS"]
    assert out.splitlines()[1].split(maxsplit=2)[:2] == ["deployment/web", "3/3"]
    assert err == "corral: no pods come of Service/web\n"
    code, out, err = await cell.corral("plan", "-f", "-", stdin=WEB.replace("replicas: 3", "replicas: 5"))
    assert code == 1, err
    assert "deployment/web: 1 pod would wait (web-4): 0/2 nodes are available: 2 Insufficient cpu." in out
    assert "  would help: free 1 of cpu on" in out
    assert (await cell.client.list(PODS))["items"] == []


async def test_the_forms_that_scripts_read(cell: Cell, tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text(WEB)
    (tmp_path / "notes.txt").write_text("not a manifest")
    where = ("plan", "-f", str(tmp_path))
    code, out, _ = await cell.corral(*where, "-o", "json")
    answer: Obj = json.loads(out)
    assert (code, answer["fits"], answer["workloads"][0]["placed"]) == (0, True, 3)
    assert yaml.safe_load((await cell.corral(*where, "-o", "yaml"))[1]) == answer
    assert (await cell.corral(*where, "-o", "name"))[1] == "deployment/web\n"
    wide = (await cell.corral(*where, "-o", "wide"))[1].splitlines()
    assert [line.split()[0] for line in wide] == ["POD", "web-0", "web-1", "web-2"]


async def test_mistakes_are_named_with_their_place(cell: Cell) -> None:
    for text, words in (
        (WEB.replace("replicas:", "replcas:"), 'Deployment/web in stdin, document 2: .*unknown field "spec.replcas"'),
        (WEB.replace("kind: Deployment", "kind: Deploymnt"), "did you mean Deployment"),
        (WEB.split("---", maxsplit=1)[0], "cannot plan Service/web: no pods come of them"),
        ("a: [", "cannot read stdin"),
        ("a: 1", "it is no object with apiVersion and kind"),
        ("", "cannot find an object in -"),
    ):
        code, out, err = await cell.corral("plan", "-f", "-", stdin=text)
        assert (code, out) == (125, ""), text
        assert re.search(words, err), err
