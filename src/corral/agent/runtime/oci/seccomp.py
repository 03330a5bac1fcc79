"""The system calls a container may make: containers-common's profile turned into the OCI runtime's form.

The profile on disk has conditions (`includes`/`excludes` by capability, architecture and kernel) that the OCI runtime
does not know; they are resolved here, purely.
"""

import functools
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DEFAULT_PROFILE = Path("/usr/share/containers/seccomp.json")
_FALLBACKS = (Path("/etc/containers/seccomp.json"),)

_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}

Profile = dict[str, Any]


def default_path() -> Path | None:
    """Where this machine's default profile is; None when it has none."""
    return next((path for path in (DEFAULT_PROFILE, *_FALLBACKS) if path.exists()), None)


def resolve(profile: Mapping[str, Any], capabilities: frozenset[str], machine: str) -> Profile:
    """`profile` for a container with `capabilities` on an architecture (`x86_64`), as the OCI runtime spec wants it.

    A profile that is in that form already passes through unchanged in meaning.
    """
    architecture, native = _ARCHITECTURES.get(machine, (machine, ""))
    resolved: Profile = {"defaultAction": profile["defaultAction"]}
    if "defaultErrnoRet" in profile:
        resolved["defaultErrnoRet"] = profile["defaultErrnoRet"]
    if "archMap" in profile:
        chosen = [entry for entry in profile["archMap"] or [] if entry["architecture"] == native]
        resolved["architectures"] = [native, *(chosen[0].get("subArchitectures") or [])] if chosen else []
    elif "architectures" in profile:
        resolved["architectures"] = list(profile["architectures"])
    resolved["syscalls"] = [
        _rule(rule)
        for rule in profile.get("syscalls") or []
        if _included(rule.get("includes") or {}, capabilities, architecture)
        and not _excluded(rule.get("excludes") or {}, capabilities, architecture)
    ]
    return resolved


def _included(condition: Mapping[str, Any], capabilities: frozenset[str], architecture: str) -> bool:
    if any(capability not in capabilities for capability in condition.get("caps") or ()):
        return False
    return architecture in condition["arches"] if condition.get("arches") else True


def _excluded(condition: Mapping[str, Any], capabilities: frozenset[str], architecture: str) -> bool:
    if any(capability in capabilities for capability in condition.get("caps") or ()):
        return True
    return architecture in (condition.get("arches") or ())


def _rule(rule: Mapping[str, Any]) -> Profile:
    names = rule.get("names") or [rule["name"]]
    made: Profile = {"names": list(names), "action": rule["action"]}
    if rule["action"] in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") and rule.get("errnoRet") is not None:
        made["errnoRet"] = rule["errnoRet"]
    if rule.get("args"):
        made["args"] = [
            {key: arg[key] for key in ("index", "value", "valueTwo", "op") if key in arg} for arg in rule["args"]
        ]
    return made


@functools.lru_cache(maxsize=16)
def _load(path: str, modified_ns: int, capabilities: frozenset[str]) -> Profile:
    return resolve(json.loads(Path(path).read_bytes()), capabilities, platform.machine())


def load(path: Path, capabilities: Sequence[str]) -> Profile:
    """The profile at `path` for a container with `capabilities`; cached until the file changes.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    return _load(str(path), path.stat().st_mtime_ns, frozenset(capabilities))
