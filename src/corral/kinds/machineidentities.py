"""Whose certificates count as a machine's. Pure.

A certificate of a machine carries, as the UID in its subject, the UID of the request by which the machine joined;
renewed ones keep it. The machine's MachineIdentity names the one that counts. So whoever joins under the name of a
machine that is gone puts the former one out of office, should it come back, and who is removed stays out although his
certificate is good for months. A name of which there is no MachineIdentity is not looked after.
"""

from typing import Final

from corral.kinds.resources import MACHINE_IDENTITIES
from corral.kinds.types import Obj

REMOVED: Final = "MachineRemoved"
"""Reason of a 401: the certificate does not count any more."""


def new(machine: str, uid: str) -> Obj:
    """The MachineIdentity of `machine`; an empty `uid` is nobody's."""
    return {
        "kind": MACHINE_IDENTITIES.kind,
        "apiVersion": MACHINE_IDENTITIES.api_version,
        "metadata": {"name": machine},
        "spec": {"uid": uid},
    }


def counts(identity: Obj, uid: str) -> bool:
    """Whether a certificate with this UID counts."""
    return bool(uid) and identity["spec"]["uid"] == uid
