"""Finding what the server is asked for: pods, runs of containers, logs, volumes."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from corral.agent.layout import Layout
from corral.agent.runtime.api import Container, ContainerState
from corral.agent.worker import PodWorker
from corral.client.informer import Informer
from corral.kinds.types import Key, Obj


class PodFiles:
    """Looks things up among the workers and in the agent's directories; see `server.Pods`."""

    def __init__(self, layout: Layout, informer: Informer, workers: Mapping[str, PodWorker]) -> None:
        self._layout = layout
        self._informer = informer
        self._workers = workers

    def pod(self, namespace: str, name: str) -> Obj | None:
        """A pod of this machine."""
        return self._informer.get(Key(namespace, name))

    def worker(self, pod: Obj) -> PodWorker | None:
        return self._workers.get(pod["metadata"]["uid"])

    def everything(self) -> Sequence[tuple[Obj, Sequence[Container]]]:
        """All pods with their containers."""
        return [(worker.pod, worker.seen.containers) for worker in self._workers.values()]

    def container(self, namespace: str, pod: str, name: str, *, previous: bool = False) -> Container | None:
        """The newest run of a container, or the one before it."""
        found = self.pod(namespace, pod)
        worker = self.worker(found) if found is not None else None
        return worker.container(name, previous=previous) if worker is not None else None

    def log(self, pod: Obj, name: str, *, previous: bool) -> tuple[Path, asyncio.Event] | None:
        """Where a run's log is, and what is set when it has ended."""
        worker = self.worker(pod)
        run = worker.container(name) if worker is not None else None
        attempts = self._logged(pod, name)
        if run is not None and run.attempt not in attempts:
            attempts.append(run.attempt)
        attempts.sort()
        position = -2 if previous else -1
        if len(attempts) < -position:
            return None
        attempt = attempts[position]
        going = run is not None and run.attempt == attempt and run.state is not ContainerState.EXITED
        ended = worker.end_of(run.id) if worker is not None and run is not None and going else asyncio.Event()
        if not going:
            ended.set()
        return self._layout.log(pod, name, attempt), ended

    def _logged(self, pod: Obj, name: str) -> list[int]:
        """Runs that left a log."""
        directory = self._layout.pod_logs(pod) / name
        if not directory.is_dir():
            return []
        stems = {entry.name.partition(".")[0] for entry in directory.iterdir()}
        return [int(stem) for stem in stems if stem.isdigit()]

    def volume(self, pod: Obj, name: str) -> Path | None:
        """Where a volume of the pod is."""
        spec = next((found for found in pod["spec"].get("volumes") or () if found["name"] == name), None)
        if spec is None:
            return None
        where = Path(spec["hostPath"]["path"]) if spec.get("hostPath") else None
        where = where or self._layout.volume(pod["metadata"]["uid"], name)
        return where if where.is_dir() else None

    def volume_of(self, pod: Obj, container: str, path: str) -> tuple[Path, str] | None:
        """The volume mounted over `path` in a container, and the rest of the path."""
        spec = pod["spec"]
        everyone = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        mounts = next((found.get("volumeMounts") or () for found in everyone if found["name"] == container), ())
        asked = PurePosixPath("/" + path.lstrip("/"))
        best: tuple[int, str, str] | None = None
        for mount in mounts:
            target = PurePosixPath(mount["mountPath"])
            if ".." in asked.parts or not asked.is_relative_to(target):
                continue
            rest = str(PurePosixPath(mount.get("subPath") or "") / asked.relative_to(target))
            if best is None or len(target.parts) > best[0]:
                best = (len(target.parts), mount["name"], rest)
        if best is None:
            return None
        where = self.volume(pod, best[1])
        return (where, best[2]) if where is not None else None
