"""The volumes of a pod."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from corral.base import quantities
from corral.kinds.builtin.rules_common import in_range, named
from corral.kinds.schema.causes import forbidden, invalid, not_supported, required
from corral.kinds.status import Cause
from corral.kinds.validation import dns_label, dns_subdomain

Source = Mapping[str, Any]
_HOST_PATH_TYPES: Final = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_MODE_WORDS: Final = "must be a number between 0 and 0777 (octal), both inclusive"
VOLUME_FIELDS: Final = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)


def check_volumes(volumes: Sequence[Mapping[str, Any]], path: str) -> tuple[list[Cause], set[str]]:
    """What is wrong with the volumes, and the names that mounts may use."""
    causes: list[Cause] = []
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        where = f"{path}[{index}]"
        causes += named(volume.get("name", ""), f"{where}.name", dns_label, names)
        kinds = [key for key in volume if key != "name"]
        for extra in kinds[1:]:
            causes.append(forbidden(f"{where}.{extra}", "may not specify more than 1 volume type"))
        if not kinds:
            causes.append(required(where, "must specify a volume type"))
        elif kinds[0] in _RULES:
            causes += _RULES[kinds[0]](volume[kinds[0]], f"{where}.{kinds[0]}")
    return causes, names


def local_path(text: str, path: str) -> list[Cause]:
    """A relative path that stays inside."""
    if text.startswith("/"):
        return [invalid(path, text, "must be a relative path")]
    return no_backsteps(text, path)


def no_backsteps(text: str, path: str) -> list[Cause]:
    """No `..` among the parts of a path."""
    return [invalid(path, text, "must not contain '..'")] if ".." in text.split("/") else []


def _mode(value: int | None, path: str) -> list[Cause]:
    return [] if value is None or 0 <= value <= 0o777 else [invalid(path, value, _MODE_WORDS)]


def _items(items: Iterable[Mapping[str, Any]], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, item in enumerate(items):
        where = f"{path}[{index}]"
        causes += _mode(item.get("mode"), f"{where}.mode")
        causes += local_path(item.get("path", ""), f"{where}.path")
        if item.get("path", "").startswith(".."):
            causes.append(invalid(f"{where}.path", item["path"], "must not start with '..'"))
    return causes


def _host_path(source: Source, path: str) -> list[Cause]:
    causes = no_backsteps(source.get("path", ""), f"{path}.path")
    if source.get("type", "") not in _HOST_PATH_TYPES:
        causes.append(not_supported(f"{path}.type", source["type"], _HOST_PATH_TYPES))
    return causes


def _empty_dir(source: Source, path: str) -> list[Cause]:
    limit = source.get("sizeLimit")
    try:
        if limit is not None and quantities.parse(limit) < quantities.parse(0):
            return [forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    except ValueError:
        pass  # The schema has refused it.
    return []


def _config_map(source: Source, path: str) -> list[Cause]:
    causes = [] if source.get("name") else [required(f"{path}.name")]
    return (
        causes
        + _mode(source.get("defaultMode"), f"{path}.defaultMode")
        + _items(source.get("items") or (), f"{path}.items")
    )


def _secret(source: Source, path: str) -> list[Cause]:
    causes = [] if source.get("secretName") else [required(f"{path}.secretName")]
    return (
        causes
        + _mode(source.get("defaultMode"), f"{path}.defaultMode")
        + _items(source.get("items") or (), f"{path}.items")
    )


def _downward(source: Source, path: str) -> list[Cause]:
    causes = _mode(source.get("defaultMode"), f"{path}.defaultMode")
    causes += _items(source.get("items") or (), f"{path}.items")
    for index, item in enumerate(source.get("items") or ()):
        where = f"{path}.items[{index}]"
        field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
        if field and resource:
            causes.append(
                invalid(where, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
            )
        elif field:
            causes += field_reference(field, VOLUME_FIELDS, f"{where}.fieldRef")
        elif resource:
            if not resource.get("containerName"):
                causes.append(required(f"{where}.resourceFieldRef.containerName"))
        else:
            causes.append(required(where, "one of fieldRef and resourceFieldRef is required"))
    return causes


def field_reference(reference: Mapping[str, Any], allowed: Sequence[str], path: str) -> list[Cause]:
    """A field of the pod that the downward API may show."""
    field = reference.get("fieldPath", "")
    base, bracket, _ = field.partition("['")
    if bracket and base in ("metadata.annotations", "metadata.labels") and field.endswith("']"):
        return []
    return [] if field in allowed or not field else [not_supported(f"{path}.fieldPath", field, allowed)]


def _projected(source: Source, path: str) -> list[Cause]:
    causes = _mode(source.get("defaultMode"), f"{path}.defaultMode")
    for index, part in enumerate(source.get("sources") or ()):
        where = f"{path}.sources[{index}]"
        if len(part) > 1:
            causes.append(forbidden(where, "may not specify more than 1 volume type per source"))
        for field in ("secret", "configMap"):
            if field in part:
                if not part[field].get("name"):
                    causes.append(required(f"{where}.{field}.name"))
                causes += _items(part[field].get("items") or (), f"{where}.{field}.items")
        if "downwardAPI" in part:
            causes += _downward(part["downwardAPI"], f"{where}.downwardAPI")
        token = part.get("serviceAccountToken")
        if token is not None:
            seconds = token.get("expirationSeconds", 3600)
            if seconds < 600:
                why = "may not specify a duration less than 10 minutes"
                causes.append(invalid(f"{where}.serviceAccountToken.expirationSeconds", seconds, why))
            elif seconds > 2**32:
                why = "may not specify a duration larger than 2^32 seconds"
                causes.append(invalid(f"{where}.serviceAccountToken.expirationSeconds", seconds, why))
    return causes


def _claim(source: Source, path: str) -> list[Cause]:
    return [
        invalid(f"{path}.claimName", source["claimName"], why) for why in dns_subdomain(source.get("claimName") or "a")
    ]


def _nfs(source: Source, path: str) -> list[Cause]:
    target = source.get("path", "")
    return [] if target.startswith("/") or not target else [invalid(f"{path}.path", target, "must be an absolute path")]


def _iscsi(source: Source, path: str) -> list[Cause]:
    return in_range(source.get("lun", 0), 0, 255, f"{path}.lun")


_RULES: Mapping[str, Callable[[Source, str], list[Cause]]] = {
    "configMap": _config_map,
    "downwardAPI": _downward,
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "iscsi": _iscsi,
    "nfs": _nfs,
    "persistentVolumeClaim": _claim,
    "projected": _projected,
    "secret": _secret,
}
