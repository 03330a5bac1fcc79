"""Who may read all of a cell's state at once."""

import gzip

import aiohttp
import pytest

from corral.app.extensions import BACKUP_PATH, serve_backups
from corral.kinds.types import Obj, Resource

from .conftest import Cell

ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False)
BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", False)
BACKUPS: Obj = {"apiGroups": ["corral.dev"], "resources": ["*"], "verbs": ["get"]}
EVERYTHING: Obj = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get"]}
SECRETS: Obj = {"apiGroups": [""], "resources": ["*"], "verbs": ["*"]}


async def grant(cell: Cell, *rules: Obj) -> None:
    """Let the user `keeper` do what `rules` say."""
    group = "rbac.authorization.k8s.io"
    role = {"kind": "ClusterRole", "apiVersion": f"{group}/v1", "metadata": {"name": "keeper"}, "rules": list(rules)}
    await cell.admin.create(ROLES, role)
    binding = {
        "kind": "ClusterRoleBinding",
        "apiVersion": f"{group}/v1",
        "metadata": {"name": "keeper"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "keeper"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "keeper"}],
    }
    await cell.admin.create(BINDINGS, binding)


async def ask(cell: Cell) -> tuple[int, bytes]:
    """What `keeper` gets."""
    serve_backups(cell.api)
    url, context = cell.url + BACKUP_PATH, cell.pki.client_context("keeper", [])
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context, auto_decompress=False) as response:
        return response.status, await response.read()


@pytest.mark.parametrize("rules", [(), (BACKUPS,), (BACKUPS, SECRETS)])
async def test_less_than_everything_is_not_enough(cell: Cell, rules: tuple[Obj, ...]) -> None:
    await grant(cell, *rules)
    code, said = await ask(cell)
    assert code == 403
    assert (b"every object" in said) is bool(rules)


async def test_who_may_read_everything_may_keep_it(cell: Cell) -> None:
    await grant(cell, EVERYTHING)
    code, content = await ask(cell)
    assert code == 200
    assert b"clusterrolebindings" in gzip.decompress(content)
