"""Where in an object a value is.

While walking, a path is a linked pair `(parent, step)`, because pairs cost next to nothing and nearly all paths are
never read; `render` writes one the way Kubernetes does: `spec.containers[0].name`, `data[key]`.
"""

from typing import TypeAlias

Step: TypeAlias = str | int
Path: TypeAlias = tuple["Path | None", Step]


def render(path: Path | None) -> str:
    """The path as text; empty for the object itself."""
    steps: list[Step] = []
    while path is not None:
        path, step = path
        steps.append(step)
    text = ""
    for step in reversed(steps):
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.startswith("["):
            text += step
        else:
            text = f"{text}.{step}" if text else step
    return text


def keyed(parent: Path | None, key: str) -> Path:
    """The path of a map's entry."""
    return parent, f"[{key}]"
