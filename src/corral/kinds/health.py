"""What server and agents agree on about a machine's silence: the numbers, and where they are written.

All of it stands on the machine's Lease, so that one compare-and-swap decides between a renewal and a verdict:

- the server proposes its numbers (`TERMS`), the agent takes them up with its next renewal;
- the agent promises (`PROMISE`) within how many seconds after it sends its last successful renewal everything is dead
  that the server may start elsewhere; what is not promised is never taken for granted;
- the server says what it makes of the silence (`SILENCE`): `suspected`, then `fenced`. From `fenced` on the agent's
  renewals do not count, until the server takes the word back.

The order of events, and why there are never two holders: docs/decisions/0017.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from corral.kinds.taints import Taint, read_tolerations
from corral.kinds.types import Obj

TERMS: Final = "corral.dev/health"
"""Annotation of a Lease, by the server: `Terms` as JSON."""
PROMISE: Final = "corral.dev/fenced-after"
"""Annotation of a Lease, by the agent: seconds."""
SILENCE: Final = "corral.dev/silence"
"""Annotation of a Lease, by the server: SUSPECTED or FENCED; missing while the machine is heard."""
SUSPECTED: Final = "suspected"
FENCED: Final = "fenced"

HEARTBEATS: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
"""The API's path of machines' Leases. What goes there waits behind nothing else, neither at the agent nor at the
server: were it late because both have much to do, the work would be stopped and started anew elsewhere."""
NO_ROOM: Final = "InsufficientStorage"
STORE_BROKEN: Final = "StorageFailure"
"""Reasons with which a server refuses every write, because its disk is full or fails: it starts nothing elsewhere."""
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
SILENT_MACHINE: Final = "NodeNotReady"
"""Reason of a pod's condition Ready that the server took away because its machine is silent; no agent writes it."""
_RENEWALS_PER_SECOND: Final = 500


class Terms(msgspec.Struct, frozen=True):
    """What the server asks of an agent. Seconds."""

    renew: float
    """Between renewals."""
    lease: int
    """Silence after which the machine counts as unreachable."""
    fence: float
    """From the sending of the last successful renewal to when the agent kills."""
    kill: float
    """That killing may take."""
    sole: bool = False
    """There is one server: while its port refuses connections nobody moves anything."""

    @property
    def promise(self) -> float:
        """Seconds from the sending of the last successful renewal until all is dead."""
        return self.fence + self.kill


@dataclass(frozen=True, slots=True)
class HealthProfile:
    """How soon a cell gives a silent machine up. Seconds.

    `fence` comes before pods are evicted (`lease + toleration`, less the second that times in taints are rounded by),
    and pods are evicted before the server may take the machine for fenced (`fence + kill` and a margin).
    """

    name: str
    renew: float
    lease: int
    fence: float
    kill: float
    toleration: int
    """For how long pods bear `unreachable` unless they say so themselves (DefaultTolerationSeconds)."""
    most_silent: float = 1 / 3
    """Share of the cell; when more than this falls silent at once, it is the network, and nobody is evicted."""

    def terms(self, machines: int, *, sole: bool) -> Terms | None:
        """What to ask of the agents of a cell with so many machines; None where pods have nowhere else to go.

        Each renewal is a durable write of the server: beyond 500 machines agents renew half as often.
        """
        if machines < 2:
            return None
        renew = self.renew if machines / self.renew <= _RENEWALS_PER_SECOND else min(2 * self.renew, self.lease / 2)
        return Terms(renew, self.lease, self.fence, self.kill, sole)


FAST: Final = HealthProfile("fast", renew=0.5, lease=2, fence=2.5, kill=1.0, toleration=2)
DEFAULT: Final = HealthProfile("default", renew=1.0, lease=4, fence=5.0, kill=2.0, toleration=3)
WAN: Final = HealthProfile("wan", renew=10.0, lease=40, fence=120.0, kill=15.0, toleration=300)
"""Kubernetes' own numbers."""
PROFILES: Final = {profile.name: profile for profile in (FAST, DEFAULT, WAN)}


def annotation(lease: Obj | None, name: str) -> str:
    """An annotation, or empty."""
    return str((((lease or {}).get("metadata") or {}).get("annotations") or {}).get(name) or "")


def read_terms(lease: Obj) -> Terms | None:
    """What the server asks for on this Lease; None if nothing that can be read."""
    text = annotation(lease, TERMS)
    try:
        return msgspec.json.decode(text.encode(), type=Terms) if text else None
    except msgspec.MsgspecError:
        return None


def write_terms(terms: Terms) -> str:
    """The annotation that says `terms`."""
    return msgspec.json.encode(terms).decode()


def read_promise(lease: Obj | None) -> float | None:
    """Seconds that the agent promised; None if it did not."""
    try:
        return float(annotation(lease, PROMISE))
    except ValueError:
        return None


def yields(pod: Obj) -> bool:
    """Whether the pod may be started elsewhere when its machine is silent: it does not bear that for ever.

    Server and agent both decide by this, from the same spec.
    """
    taint = Taint(UNREACHABLE, "", "NoExecute")
    bears = next((found for found in read_tolerations(pod.get("spec") or {}) if found.tolerates(taint)), None)
    return bears is None or bears.seconds is not None
