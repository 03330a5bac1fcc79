"""Taking a pod that has ended out of the API."""

import logging
from collections.abc import Callable

from corral.agent.status_writer import StatusWriter
from corral.base.backoff import Backoff
from corral.base.clock import Clock
from corral.client.client import Client
from corral.kinds.resources import PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Key

logger = logging.getLogger(__name__)

_RETRY = Backoff(initial=1, maximum=60)


async def remove(
    client: Client, clock: Clock, key: Key, uid: str, writer: StatusWriter, gone: Callable[[], bool]
) -> None:
    """Report the last status, then delete the object, if it is still the same one; retried until it is `gone`."""
    await writer.flush()
    attempt = 0
    while not writer.lost and not gone():
        try:
            await client.delete(PODS, key.name, key.namespace, uid=uid, grace=0)
            return
        except StatusError as error:
            if error.code in (404, 409):
                return
            logger.warning("cannot delete pod %s, will retry: %s", key, error)
        except OSError as error:
            logger.warning("cannot delete pod %s, will retry: %s", key, error)
        await clock.sleep(_RETRY.delay(attempt))
        attempt += 1
