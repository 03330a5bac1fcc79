"""Letting packets of a bridge through where iptables drops what is forwarded.

Docker sets that policy if it is the one who turns forwarding on; where nobody drops anything, iptables stays as it is.
"""

import logging
import shutil

from corral.agent.runtime import spawn

log = logging.getLogger(__name__)


async def accept(bridge: str) -> None:
    """Let packets from and to `bridge` through."""
    if not _installed() or b"-P FORWARD ACCEPT" in (await spawn.run(["iptables", "-w", "-S", "FORWARD"])).stdout:
        return
    for rule in _rules(bridge):
        if (await spawn.run(["iptables", "-w", "-C", "FORWARD", *rule])).code:
            done = await spawn.run(["iptables", "-w", "-I", "FORWARD", "1", *rule])
            if done.code:
                log.warning("cannot let packets of %s through: iptables: %s", bridge, done.words)


async def forget(bridge: str) -> None:
    """Undo `accept`. Safe to repeat."""
    if _installed():
        for rule in _rules(bridge):
            await spawn.run(["iptables", "-w", "-D", "FORWARD", *rule])


def _installed() -> bool:
    return shutil.which("iptables", path=spawn.PATH) is not None


def _rules(bridge: str) -> list[list[str]]:
    return [[flag, bridge, "-j", "ACCEPT"] for flag in ("-i", "-o")]
