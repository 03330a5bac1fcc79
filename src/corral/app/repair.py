"""What a host says about repairs: `repair.yaml` in the data directory, commands that only its owner may name.

reboot: [systemctl, reboot]                                  # on a machine: how its agent reboots it
remote: [ipmitool, -H, "bmc-{machine}", power, cycle]        # on a server: for machines that do not answer
"""

from pathlib import Path

import msgspec
import yaml

from corral.base.errors import CorralError

FILE = "repair.yaml"


class HostCommands(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Commands, as words; empty if there is none."""

    reboot: tuple[str, ...] = ()
    remote: tuple[str, ...] = ()


def host_commands(data_dir: Path) -> HostCommands:
    """What the file says; nothing if there is none.

    Raises:
        CorralError: it cannot be read; the field is named.
    """
    path = data_dir / FILE
    try:
        said = yaml.load(path.read_bytes(), yaml.CSafeLoader)
        return msgspec.convert(said or {}, HostCommands)
    except FileNotFoundError:
        return HostCommands()
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        words = " ".join(str(error).split())
        remedy = "write `reboot: [WORD, ...]` and `remote: [WORD, ...]`"
        raise CorralError(f"cannot read {path}: {words}", remedy) from error
