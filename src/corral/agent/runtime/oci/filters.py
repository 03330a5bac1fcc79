"""A seccomp profile compiled once, for many containers.

Compiling the default profile takes libseccomp about 13 ms, more than all else that crun does to start a container, and
crun 1.8 does it for each container. crun takes a compiled program instead (the annotation `run.oci.seccomp_bpf_data`),
so the same library is called here, once for each profile. The rules are added as crun and runc add them. Where
libseccomp cannot be loaded, there is no program and the OCI runtime compiles as ever.
"""

import base64
import ctypes
import functools
import json
import logging
import os
from collections import Counter
from typing import Any

log = logging.getLogger(__name__)

ANNOTATION = "run.oci.seccomp_bpf_data"

# linux/seccomp.h and seccomp.h
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_COMPARISONS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_EPERM = 1
_EEXIST = -17
_UNKNOWN_CALL = -1


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


@functools.cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    )
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    return library


def compiled(profile: dict[str, Any]) -> str | None:
    """The program of an OCI seccomp section in base64, or None where it has to be left to the OCI runtime."""
    return _compiled(json.dumps(profile, sort_keys=True))


@functools.lru_cache(maxsize=16)
def _compiled(text: str) -> str | None:
    library = _library()
    if library is None:
        return None
    try:
        return base64.b64encode(_compile(library, json.loads(text))).decode()
    except (KeyError, OSError) as error:
        log.warning("cannot compile a seccomp profile here (%s); the OCI runtime does it for each container", error)
        return None


def _compile(library: ctypes.CDLL, profile: dict[str, Any]) -> bytes:
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = library.seccomp_init(default)
    if not context:
        raise OSError(0, "seccomp_init refuses the default action")
    try:
        for name in profile.get("architectures", ()):
            short = name.removeprefix("SCMP_ARCH_").lower().encode()
            _check(library.seccomp_arch_add(context, library.seccomp_arch_resolve_name(short)), "architecture", name)
        for rule in profile.get("syscalls", ()):
            action = _action(rule["action"], rule.get("errnoRet"))
            if action != default:
                _add(library, context, action, rule)
        return _export(library, context)
    finally:
        library.seccomp_release(context)


def _add(library: ctypes.CDLL, context: int, action: int, rule: dict[str, Any]) -> None:
    arguments = [
        _Comparison(arg["index"], _COMPARISONS[arg["op"]], arg["value"], arg.get("valueTwo", 0))
        for arg in rule.get("args", ())
    ]
    # Several conditions on one argument are alternatives, and a rule can hold only one of them.
    repeated = any(count > 1 for count in Counter(argument.arg for argument in arguments).values())
    alternatives = [[argument] for argument in arguments] if repeated else [arguments]
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN_CALL:
            continue
        for conditions in alternatives:
            array = (_Comparison * len(conditions))(*conditions)
            result = library.seccomp_rule_add_array(context, action, number, len(conditions), array)
            _check(result, "rule for", name)


def _check(result: int, what: str, name: str) -> None:
    if result < 0 and result != _EEXIST:
        raise OSError(-result, f"{what} {name}: {os.strerror(-result)}")


def _action(name: str, errno_return: int | None) -> int:
    value = _ACTIONS[name]
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        value |= _EPERM if errno_return is None else errno_return
    return value


def _export(library: ctypes.CDLL, context: int) -> bytes:
    descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        _check(library.seccomp_export_bpf(context, descriptor), "program of", "the profile")
        os.lseek(descriptor, 0, os.SEEK_SET)
        program = b""
        while chunk := os.read(descriptor, 1 << 16):
            program += chunk
        return program
    finally:
        os.close(descriptor)
