"""exec, attach and port forwarding as routes of the agent's server."""

from collections.abc import Callable, Sequence

from aiohttp import web

from corral.agent.runtime.api import ContainerState, Runtime
from corral.agent.streams import attach_handler, exec_handler, port_forward_handler
from corral.agent.worker import PodWorker
from corral.kinds.status import StatusError, bad_request

FindWorker = Callable[[str, str], PodWorker | None]


def routes(runtime: Runtime, find: FindWorker) -> Sequence[web.RouteDef]:
    """The routes, with and without a uid after the pod's name, as the kubelet has them."""
    exec_ = exec_handler(
        runtime, lambda namespace, pod, uid, container: _container(find, namespace, pod, uid, container)
    )
    attach = attach_handler(
        runtime, lambda namespace, pod, uid, container: _container(find, namespace, pod, uid, container)
    )
    forward = port_forward_handler(runtime, lambda namespace, pod, uid: _sandbox(find, namespace, pod, uid))
    return [
        web.route("*", "/exec/{namespace}/{pod}/{container}", exec_),
        web.route("*", "/exec/{namespace}/{pod}/{uid}/{container}", exec_),
        web.route("*", "/attach/{namespace}/{pod}/{container}", attach),
        web.route("*", "/attach/{namespace}/{pod}/{uid}/{container}", attach),
        web.route("*", "/portForward/{namespace}/{pod}", forward),
        web.route("*", "/portForward/{namespace}/{pod}/{uid}", forward),
    ]


def _worker(find: FindWorker, namespace: str, pod: str, uid: str) -> PodWorker:
    worker = find(namespace, pod)
    if worker is None or (uid and worker.uid != uid):
        raise StatusError(404, "NotFound", f'pod "{pod}" not found in namespace "{namespace}" on this machine')
    return worker


def _container(find: FindWorker, namespace: str, pod: str, uid: str, container: str) -> str:
    worker = _worker(find, namespace, pod, uid)
    name = container or worker.pod["spec"]["containers"][0]["name"]
    run = worker.container(name)
    if run is None:
        raise StatusError(404, "NotFound", f'container not found ("{name}")')
    if run.state is not ContainerState.RUNNING:
        raise bad_request(f'container "{name}" of pod "{pod}" is not running')
    return run.id


def _sandbox(find: FindWorker, namespace: str, pod: str, uid: str) -> str:
    sandbox = _worker(find, namespace, pod, uid).seen.sandbox
    if sandbox is None or not sandbox.ready:
        raise StatusError(404, "NotFound", f'pod "{pod}" does not run on this machine')
    return sandbox.id
