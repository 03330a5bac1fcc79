"""The scheduler's eyes for storage: claims, volumes, classes and CSINodes as they are, told to the snapshot."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from corral.client.client import Client
from corral.client.informer import Event, Informer
from corral.kinds.resources import CSI_NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from corral.kinds.status import StatusError
from corral.kinds.storage import read_claim, read_class, read_volume
from corral.kinds.types import Key, Obj
from corral.machinery.caches import Caches
from corral.scheduler.volumebinder import VolumeBinder
from corral.scheduler.volumes import Volumes, read_limits

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Storage:
    """Keeps `volumes` fresh.

    Args:
        changed: called after news, with the claim that they are about, or None if they are about others.
    """

    def __init__(
        self,
        client: Client,
        caches: Caches,
        volumes: Volumes,
        changed: Callable[[Key | None], None],
    ) -> None:
        self._volumes = volumes
        self._changed = changed
        resources = (STORAGE_CLASSES, CSI_NODES, PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS)
        self.informers: Sequence[Informer] = [caches.get(resource) for resource in resources]
        classes, csi_nodes, stock, claims = self.informers
        classes.on_event(self._on_class)
        csi_nodes.on_event(self._on_csi_node)
        stock.on_event(self._on_volume)
        claims.on_event(self._on_claim)
        self.binder = VolumeBinder(client, claims, stock)

    def _on_class(self, event: Event) -> None:
        if self._volumes.put_class(event.key.name, _read(event, read_class)):
            self._changed(None)

    def _on_csi_node(self, event: Event) -> None:
        if self._volumes.put_limits(event.key.name, _read(event, read_limits)):
            self._changed(None)

    def _on_volume(self, event: Event) -> None:
        if self._volumes.put_volume(event.key.name, _read(event, read_volume)):
            self._changed(None)

    def _on_claim(self, event: Event) -> None:
        if self._volumes.put_claim(event.key, _read(event, read_claim)):
            self._changed(event.key)


def _read(event: Event, reader: Callable[[Obj], _T]) -> _T | None:
    """The meaning of an object; one that has none counts as gone."""
    if event.new is None:
        return None
    try:
        return reader(event.new)
    except (ValueError, StatusError) as error:
        _log.warning("cannot read %s %s: %s", event.new.get("kind"), event.key, error)
        return None
