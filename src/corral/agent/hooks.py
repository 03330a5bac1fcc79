"""Lifecycle hooks: postStart beside a container's start, preStop before its end."""

from corral.agent.actions import Actions, Outcome, Target

_POST_START_SECONDS = 24 * 3600.0
"""Kubernetes sets postStart no limit; a day keeps a stuck one from being kept for ever."""


def has_post_start(container: dict[str, object]) -> bool:
    """Whether something is to run after the start."""
    return bool(_handler(container, "postStart"))


async def post_start(actions: Actions, target: Target) -> Outcome:
    """Run the postStart hook, if there is one."""
    handler = _handler(target.container, "postStart")
    return await actions.perform(handler, target, _POST_START_SECONDS) if handler else Outcome(True)


async def pre_stop(actions: Actions, target: Target, grace: float) -> Outcome:
    """Run the preStop hook, if there is one, for at most `grace` seconds."""
    handler = _handler(target.container, "preStop")
    return await actions.perform(handler, target, grace) if handler and grace > 0 else Outcome(True)


def _handler(container: dict[str, object], name: str) -> dict[str, object]:
    lifecycle = container.get("lifecycle")
    handler = lifecycle.get(name) if isinstance(lifecycle, dict) else None
    return handler if isinstance(handler, dict) else {}
