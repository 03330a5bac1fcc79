"""Options that several commands of this room share."""

from pathlib import Path

import click

from corral.app.config import DEFAULT_DATA_DIR
from corral.base.errors import CorralError
from corral.kinds.podspec import amount

data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DATA_DIR,
    envvar="CORRAL_DATA_DIR",
    show_default=True,
    help="Where the cell, or the machine, keeps its state.",
)
engine = click.option(
    "--engine", type=click.Choice(["auto", "crun", "runc"]), default="auto", help="OCI runtime to use."
)


def pairs(text: str, option: str) -> dict[str, str]:
    """What `key=value,key=value` says.

    Raises:
        CorralError: it is not written so.
    """
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise CorralError(f"cannot read {option} {part!r}", f"write {option} key=value,key=value")
        found[key.strip()] = value.strip()
    return found


def amounts(text: str) -> dict[str, int]:
    """What a --capacity says: cpu in thousandths, everything else in whole units.

    Raises:
        CorralError: it cannot be read.
    """
    found: dict[str, int] = {}
    for name, value in pairs(text, "--capacity").items():
        try:
            found[name] = amount(name, value)
        except ValueError as error:
            raise CorralError(f"cannot read --capacity {name}={value}: {error}", "write cpu=4,memory=8Gi") from error
    return found
