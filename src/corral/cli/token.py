"""`corral token`: what a new machine joins with."""

import base64
import re
import secrets
import string
from datetime import UTC, datetime, timedelta

import click

from corral.base.clock import parse_rfc3339
from corral.base.errors import CorralError
from corral.cli import terminal
from corral.cli.session import Session, connected
from corral.client.client import Client
from corral.kinds.bootstraptokens import NAMESPACE, SECRET_TYPE, secret_name, token_id, token_secret
from corral.kinds.resources import CONFIG_MAPS, SECRETS
from corral.kinds.status import StatusError
from corral.kinds.tables import human_duration
from corral.kinds.types import Obj

_ALPHABET = string.ascii_lowercase + string.digits
_TTL = re.compile(r"(\d+)([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> int:
    """A span such as 90s, 10m, 24h or 7d.

    Raises:
        click.BadParameter: it is none.
    """
    found = _TTL.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no span of time: write 90s, 10m, 24h or 7d; 0 means for ever")
    return int(found[1]) * _UNITS[found[2]]


@click.group("token", short_help="Make the tokens that machines join with.")
def command() -> None:
    """The tokens that machines join with. A token is good for many machines until it ends."""


@command.command("create")
@click.option("--ttl", default="24h", show_default=True, metavar="SPAN", help="How long it is good; 0: for ever.")
@click.option("--description", default="", metavar="TEXT", help="What it is for.")
@connected
async def create(session: Session, ttl: str, description: str) -> None:
    """Make a token and print the line that joins a machine with it."""
    life = seconds(ttl)
    server, pin = await place(session)
    token = await issue(session.client, life, description)
    if life:
        terminal.note(f"good for {human_duration(life)}; on the new machine, as root:")
    click.echo(f"corral join {server} --token {token} --ca-hash {pin}")


async def issue(client: Client, life: int, description: str) -> str:
    """A new token, good for `life` seconds, or for ever if 0."""
    ident, secret = _random(6), _random(16)
    expires = datetime.now(UTC) + timedelta(seconds=life) if life else None
    await client.create(SECRETS, token_secret(ident, secret, description, expires))
    return f"{ident}.{secret}"


async def withdraw(client: Client, token: str) -> None:
    """Make a token worthless."""
    await client.delete(SECRETS, secret_name(token.partition(".")[0]), NAMESPACE)


async def place(session: Session) -> tuple[str, str]:
    """Where machines reach the cell, and the hash of its authority."""
    try:
        info = await session.client.get(CONFIG_MAPS, "cluster-info", "kube-public")
        return info["data"]["server"], info["data"]["ca-hash"]
    except (StatusError, KeyError) as error:
        raise CorralError(
            f"cannot find out where machines reach the cell: {error}",
            "see the ConfigMap cluster-info in kube-public; a server writes it when it starts",
        ) from error


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


@command.command("ls")
@connected
async def ls(session: Session) -> None:
    """List the tokens, without their secret half."""
    now, rows = datetime.now(UTC), []
    listed = await session.client.list(SECRETS, NAMESPACE, field_selector=f"type={SECRET_TYPE}")
    for secret in listed["items"]:
        ends = _decoded(secret, "expiration")
        left = human_duration(max(0.0, (parse_rfc3339(ends) - now).total_seconds())) if ends else "for ever"
        rows.append([token_id(secret), left, _decoded(secret, "description")])
    click.echo(terminal.columns(["TOKEN", "GOOD FOR", "DESCRIPTION"], rows))


def _decoded(secret: Obj, field: str) -> str:
    return base64.b64decode((secret.get("data") or {}).get(field, "")).decode(errors="replace")


@command.command("delete")
@click.argument("tokens", nargs=-1, required=True, metavar="TOKEN...")
@connected
async def delete(session: Session, tokens: tuple[str, ...]) -> None:
    """Make tokens worthless; machines that have joined with them stay."""
    for token in tokens:
        ident = token.partition(".")[0]
        try:
            await withdraw(session.client, ident)
        except StatusError as error:
            if error.code != 404:
                raise
            raise CorralError(f"cannot find the token {ident}", "`corral token ls` lists them") from error
        click.echo(ident)
