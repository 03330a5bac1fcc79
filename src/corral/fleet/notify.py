"""Sending a notice to an address.

`http://` and `https://` get a POST of JSON, in the form of apprise's own webhooks with the repair beside it. Everything
else (mail, Slack, Teams, SMS ...) is apprise's business, the extra `corral[notify]`.
"""

import asyncio
import logging

import aiohttp
import msgspec

from corral.base.errors import CorralError
from corral.kinds.repairs import Notice, Repair
from corral.kinds.types import Obj
from corral.wire.sockets import guarded

_SECONDS = 15.0


async def send(address: str, notice: Notice, repair: Repair) -> None:
    """Send it.

    Raises:
        CorralError, OSError: it was not sent; the message does not contain the address, which is often a secret.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            if address.startswith(("http://", "https://")):
                await _post(address, payload(notice, repair))
            else:
                await _by_apprise(address, notice)
    except TimeoutError as error:
        raise OSError(f"no answer within {_SECONDS:g} s") from error


def payload(notice: Notice, repair: Repair) -> Obj:
    """What a webhook gets."""
    status = repair.status
    shown = {"phase": status.phase, "rule": status.rule}
    lists = {"seen": status.seen, "attempts": status.attempts, "moved": status.moved}
    return {
        "version": "1.0",
        "type": "failure",
        "title": notice.title,
        "message": notice.text,
        "attachments": [],
        "repair": {
            "name": repair.name,
            "machine": repair.machine,
            "reason": notice.reason,
            **shown,
            **{field: [msgspec.to_builtins(one) for one in value] for field, value in lists.items()},
        },
    }


async def _post(address: str, body: Obj) -> None:
    connector = aiohttp.TCPConnector(socket_factory=guarded)
    try:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(address, json=body, allow_redirects=False) as response,
        ):
            if response.status >= 300:
                raise CorralError(f"the webhook answered {response.status}")
    except aiohttp.InvalidURL as error:
        raise CorralError("cannot send: the address is no URL") from error
    except aiohttp.ClientError as error:
        raise OSError(f"cannot reach the webhook: {type(error).__name__}") from error


async def _by_apprise(address: str, notice: Notice) -> None:
    try:
        import apprise
    except ImportError as error:
        scheme = address.partition("://")[0] if "://" in address else "such addresses"
        raise CorralError(
            f"cannot send to {scheme}: apprise is not installed", "pip install 'corral[notify]', or use a webhook"
        ) from error
    # It names addresses in what it logs.
    logging.getLogger("apprise").propagate = False
    sender = apprise.Apprise()
    if not sender.add(address):
        raise CorralError("cannot send: apprise does not understand the address")
    kind = apprise.NotifyType.FAILURE
    if not await sender.async_notify(body=notice.text, title=notice.title, notify_type=kind):
        raise OSError("apprise could not send it")
