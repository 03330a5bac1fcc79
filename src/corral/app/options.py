"""Options that several commands of this room share."""

from pathlib import Path

import click

from corral.app.config import DEFAULT_DATA_DIR

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
