"""Where an etcd is: `etcd://HOST:PORT,HOST:PORT?ca=FILE&cert=FILE&key=FILE`. Pure."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from corral.base.errors import CorralError

SCHEME = "etcd"
_FORM = "write etcd://HOST:PORT,HOST:PORT,...?ca=FILE&cert=FILE&key=FILE"
_FILES = ("ca", "cert", "key")


@dataclass(frozen=True, slots=True)
class EtcdAddress:
    """The members of one etcd, and how to prove who we are."""

    members: tuple[str, ...]
    """Each as HOST:PORT."""
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def url(self, member: str) -> str:
        """Where a member answers."""
        return f"{'https' if self.ca is not None else 'http'}://{member}"

    def __str__(self) -> str:
        return f"{SCHEME}://{','.join(self.members)}"


def parse(text: str) -> EtcdAddress:
    """Read an address.

    Raises:
        CorralError: it makes no sense, or would send the cell's secrets over a network in the clear.
    """
    parts = urlsplit(text)
    if parts.scheme != SCHEME or not parts.netloc or parts.path not in ("", "/"):
        raise CorralError(f"cannot read the address {text!r}", _FORM)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - set(_FILES))
    if unknown:
        raise CorralError(f"cannot read the address {text!r}: it has no option {unknown[0]!r}", _FORM)
    files = {name: Path(options[name]) for name in _FILES if options.get(name)}
    if ("cert" in files) != ("key" in files):
        raise CorralError(f"cannot use the address {text!r}: `cert` and `key` go together", _FORM)
    members = tuple(member if ":" in member else f"{member}:2379" for member in parts.netloc.split(",") if member)
    if "ca" not in files and not all(_is_loopback(member) for member in members):
        raise CorralError(
            f"cannot use the address {text!r}: without `ca` everything would go over the network in the clear",
            "give the authority of etcd's certificates: ?ca=FILE",
        )
    for name, path in files.items():
        if not path.is_file():
            raise CorralError(f"cannot read {path}: no such file", f"name the right file as `{name}` in the address")
    return EtcdAddress(members, **files)


def _is_loopback(member: str) -> bool:
    host = member.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
