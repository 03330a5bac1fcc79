"""What configMap, secret, downwardAPI and projected volumes show: from API objects to files."""

import base64
from collections.abc import Mapping

from corral.agent.env import ConfigError, field_value, resource_value
from corral.agent.volumes.api import File, Payload, VolumeContext, VolumeError
from corral.kinds.resources import CONFIG_MAPS, SECRETS
from corral.kinds.types import Obj

DEFAULT_MODE = 0o644
_TOKEN_SECONDS = 3600


async def config_map(source: Obj, name: str, default_mode: int, context: VolumeContext) -> Payload:
    """Files of a `configMap` source that refers to `name`."""
    found = await context.objects.get(CONFIG_MAPS, context.namespace, name, context.uid)
    if found is None:
        return _missing("configmap", name, source)
    data = {key: value.encode() for key, value in (found.get("data") or {}).items()}
    data.update({key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()})
    return _picked(data, source, default_mode, f"configmap {context.namespace}/{name}", context)


async def secret(source: Obj, name: str, default_mode: int, context: VolumeContext) -> Payload:
    """Files of a `secret` source that refers to `name`."""
    found = await context.objects.get(SECRETS, context.namespace, name, context.uid)
    if found is None:
        return _missing("secret", name, source)
    data = {key: base64.b64decode(value or "") for key, value in (found.get("data") or {}).items()}
    return _picked(data, source, default_mode, f"secret {context.namespace}/{name}", context)


def downward(source: Obj, default_mode: int, context: VolumeContext) -> Payload:
    """Files of a `downwardAPI` source."""
    files = {}
    for item in source.get("items") or ():
        try:
            if item.get("fieldRef"):
                text = field_value(context.pod, item["fieldRef"].get("fieldPath", ""), context.around)
            else:
                text = resource_value(context.pod, item.get("resourceFieldRef") or {}, context.around)
        except ConfigError as error:
            raise VolumeError(error.message, error.remedy) from error
        files[item["path"]] = File(text.encode(), _mode(item.get("mode"), default_mode, context))
    return files


async def token(source: Obj, default_mode: int, context: VolumeContext) -> Payload:
    """The file of a `serviceAccountToken` source."""
    seconds = int(source.get("expirationSeconds") or _TOKEN_SECONDS)
    issued = await context.tokens.token(context.pod, source.get("audience") or "", seconds)
    # The kubelet closes tokens to others as far as the pod's users can still read them.
    mode = _mode(None, default_mode if _shared(context) else 0o600, context)
    return {source["path"]: File(issued.text.encode(), mode)}


def _shared(context: VolumeContext) -> bool:
    """Whether a container may run as another user than root."""
    spec = context.pod["spec"]
    if (spec.get("securityContext") or {}).get("runAsUser") not in (None, 0):
        return True
    everyone = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    users = {(container.get("securityContext") or {}).get("runAsUser") for container in everyone}
    # An image may bring its own user, which is not known here: then everyone in the pod may read, as without fsGroup.
    return users != {0}


def _missing(kind: str, name: str, source: Obj) -> Payload:
    if source.get("optional"):
        return {}
    raise VolumeError(f'{kind} "{name}" not found', f"create the {kind}, or mark the volume optional")


def _picked(data: Mapping[str, bytes], source: Obj, default_mode: int, whence: str, context: VolumeContext) -> Payload:
    items = source.get("items")
    if not items:
        return {key: File(value, _mode(None, default_mode, context)) for key, value in data.items()}
    files = {}
    for item in items:
        if item["key"] not in data:
            if source.get("optional"):
                continue
            raise VolumeError(f"references non-existent config key: {item['key']} ({whence})")
        files[item["path"]] = File(data[item["key"]], _mode(item.get("mode"), default_mode, context))
    return files


def _mode(own: object, default: int, context: VolumeContext) -> int:
    mode = int(own) if isinstance(own, int) else default
    return mode | 0o440 if context.fs_group is not None else mode


def mode_of(source: Obj) -> int:
    """`defaultMode` of a volume source."""
    mode = source.get("defaultMode")
    return DEFAULT_MODE if mode is None else int(mode)
