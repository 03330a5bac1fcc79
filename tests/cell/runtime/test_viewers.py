"""Who looks at a container does not hold it up for long."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from corral.agent.runtime.api import RuntimeFailure
from corral.agent.runtime.oci import OciRuntime
from corral.testing.runtime_suite import PATIENCE, make_pod


async def test_a_viewer_who_does_not_read_is_left_behind(runtime: OciRuntime, tmp_path: Path) -> None:
    pod = await make_pod(runtime, tmp_path)
    spec = replace(pod.spec("sh", "-c", "read line; seq 200000; exit 3"), stdin=True)
    await pod.run(spec)
    viewer = await runtime.attach(spec.id, stdin=True)
    await viewer.write_stdin(b"go\n")
    seen = viewer.stdout()
    async with asyncio.timeout(PATIENCE):
        first = await anext(seen)
        # The container ends, with all that it said in its log, although nothing more is read.
        assert (await pod.finished(spec)).exit_code == 3
        assert first.startswith(b"1\n")
        assert pod.log(spec)[-1] == "stdout F 200000"
        rest = b"".join([chunk async for chunk in seen])
        assert not rest.endswith(b"200000\n")
        with pytest.raises(RuntimeFailure, match="nobody read it"):
            await viewer.wait()
    await viewer.close()
