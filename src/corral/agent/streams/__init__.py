"""Interactive streams on the agent: exec, attach and port forwarding over SPDY/3.1 and WebSocket, as kubelet does.

    app.router.add_route("*", "/exec/{namespace}/{pod}/{container}", exec_handler(runtime, find_container))
    app.router.add_route("*", "/attach/{namespace}/{pod}/{container}", attach_handler(runtime, find_container))
    app.router.add_route("*", "/portForward/{namespace}/{pod}", port_forward_handler(runtime, find_sandbox))

The same with `/{uid}` after the pod. The lookups raise `StatusError` for what is not there or does not run.
"""

from corral.agent.streams.handlers import (
    FindContainer,
    FindSandbox,
    attach_handler,
    exec_handler,
    port_forward_handler,
)

__all__ = ["FindContainer", "FindSandbox", "attach_handler", "exec_handler", "port_forward_handler"]
