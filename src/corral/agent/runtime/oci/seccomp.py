"""The system calls a container may make: containers-common's profile turned into the OCI runtime's form.

The profile on disk has conditions (`includes`/`excludes` by capability, architecture and kernel) that the OCI runtime
does not know; they are resolved here, purely. That profile also lets containers make user namespaces and mount in
them, for the sake of containers in containers without root. Most escapes of the last years began there, so without
CAP_SYS_ADMIN these calls are refused, as Docker's and containerd's profiles refuse them.
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

_NAMESPACE_CALLS = frozenset(
    (
        *("mount", "umount", "umount2", "mount_setattr", "move_mount", "open_tree", "pivot_root", "setns", "unshare"),
        *("fsconfig", "fsmount", "fsopen", "fspick", "add_key", "keyctl", "request_key"),
    )
)
_CLONE_FLAGS = 0x7E02_0000
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}."""
_CLONE_FLAGS_AT = {"s390x": 1}
_EPERM, _ENOSYS = 1, 38

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


def narrowed(profile: Profile, machine: str) -> Profile:
    """A resolved profile without new namespaces, mounts and the kernel's key rings."""
    mine = {*_NAMESPACE_CALLS, "clone", "clone3"}
    rules = [{**rule, "names": [name for name in rule["names"] if name not in mine]} for rule in profile["syscalls"]]
    allow = "SCMP_ACT_ALLOW"
    plain = {"index": _CLONE_FLAGS_AT.get(machine, 0), "value": _CLONE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    rules += [
        {"names": sorted(_NAMESPACE_CALLS), "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM},
        {"names": ["clone"], "action": allow, "args": [plain]},
        # Its flags lie in memory, where a filter cannot look; the C libraries then fall back to clone.
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
    ]
    return {**profile, "syscalls": [rule for rule in rules if rule["names"]]}


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
    profile = resolve(json.loads(Path(path).read_bytes()), capabilities, platform.machine())
    if Path(path) not in (DEFAULT_PROFILE, *_FALLBACKS) or "CAP_SYS_ADMIN" in capabilities:
        return profile
    return narrowed(profile, platform.machine())


def load(path: Path, capabilities: Sequence[str]) -> Profile:
    """The profile at `path` for a container with `capabilities`; cached until the file changes.

    The machine's default profile is narrowed, one that a pod names is taken as it is.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    return _load(str(path), path.stat().st_mtime_ns, frozenset(capabilities))
