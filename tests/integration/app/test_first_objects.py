"""A cell that an older Corral has made gets the rules that it lacks when it starts."""

import random
from pathlib import Path

from corral.apiserver.auth.api import User
from corral.apiserver.auth.pki import MASTERS
from corral.apiserver.inprocess import InProcessTransport
from corral.app.config import CellConfig, prepare_data_dir
from corral.app.server import running_server
from corral.base.clock import SystemClock
from corral.client.client import Client
from corral.kinds.resources import CLUSTER_ROLES

ROLE = "system:controller:certificate-controller"


async def test_a_role_of_an_older_cell_is_completed(tmp_path: Path) -> None:
    config = CellConfig(tmp_path, port=0, agent=False, node_name="server")
    prepare_data_dir(config)
    own = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
    seen, revisions = [], []
    for _ in range(3):
        async with running_server(config, SystemClock(), random.Random(1), lambda name, what: None) as api:
            admin = Client(InProcessTransport(api.server, User("admin", (MASTERS,))))
            role = await admin.get(CLUSTER_ROLES, ROLE)
            seen.append(role)
            revisions.append(api.server.core.store.revision)
            if len(seen) == 1:
                await admin.patch(CLUSTER_ROLES, ROLE, {"rules": [own, *role["rules"][1:]]})
    first, second, third = ([repr(rule) for rule in role["rules"]] for role in seen)
    assert sorted(second) == sorted([*first, repr(own)])
    assert third == second
    assert revisions[2] == revisions[1], "a start that finds everything complete writes nothing"
