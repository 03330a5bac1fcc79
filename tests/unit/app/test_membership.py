"""A machine's certificates: whole, of its own cell, and renewed in time."""

import asyncio
import base64
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509

from corral.apiserver.auth.pki import Pki
from corral.app import up
from corral.app.membership import SERVING_SIGNER, Identity, Membership
from corral.base.errors import CorralError
from corral.kinds.status import unauthorized
from corral.kinds.types import Obj
from corral.testing.clock import EPOCH, FakeClock, settle

MEMBERSHIP = Membership("https://127.0.0.1:1", "m1", {}, [], {}, "127.0.0.9")


class Signer:
    """A client of a cell that grants every request at once."""

    def __init__(self, directory: Path, now: datetime = EPOCH) -> None:
        self.pki = Pki.open(directory, hosts=[], clock=FakeClock(now))
        self.asked: list[str] = []

    async def create(self, resource: Any, request: Obj) -> Obj:
        signer = request["spec"]["signerName"]
        self.asked.append(signer)
        made = self.pki.sign_request(base64.b64decode(request["spec"]["request"]), signer != SERVING_SIGNER, None)
        return {**request, "status": {"certificate": base64.b64encode(made).decode()}}


def identity(directory: Path, signer: Signer, now: datetime = EPOCH) -> Identity:
    directory.mkdir(exist_ok=True)
    (directory / "ca.crt").write_bytes(signer.pki.ca_pem)
    return Identity(directory, MEMBERSHIP, FakeClock(now))


def end_of(path: Path) -> datetime:
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc


async def looked(one: Identity, signer: Any) -> None:
    """Let `one` look once whether something is due."""
    task = asyncio.create_task(one.keep(signer))
    await settle()
    task.cancel()


async def test_certificates_are_renewed_when_two_thirds_of_their_life_are_over(tmp_path: Path) -> None:
    signer = Signer(tmp_path / "ca")
    await looked(identity(tmp_path / "m", signer), signer)
    assert len(signer.asked) == 2
    files = [tmp_path / "m" / "client.pem", tmp_path / "m" / "serving.pem"]
    before = [end_of(file) for file in files]
    await looked(identity(tmp_path / "m", signer, EPOCH + timedelta(days=240)), signer)
    assert [end_of(file) for file in files] == before
    later = EPOCH + timedelta(days=250)
    renewing = Signer(tmp_path / "ca", later)
    one = identity(tmp_path / "m", renewing, later)
    one.client_tls()
    await looked(one, renewing)
    assert [end_of(file) for file in files] == [end + timedelta(days=250) for end in before]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 2
    one.client_tls()


async def test_a_machine_whose_certificate_is_over_is_told_so(tmp_path: Path) -> None:
    signer = Signer(tmp_path / "ca")
    with pytest.raises(CorralError, match="is missing"):
        identity(tmp_path / "m", signer).require()
    await looked(identity(tmp_path / "m", signer), signer)
    due = identity(tmp_path / "m", signer, EPOCH + timedelta(days=360))
    due.require()
    assert due.introduced
    over = identity(tmp_path / "m", signer, EPOCH + timedelta(days=366))
    with pytest.raises(CorralError, match="or over"):
        over.require()


async def test_a_certificate_of_another_cell_is_not_used(tmp_path: Path) -> None:
    former, present = Signer(tmp_path / "former"), Signer(tmp_path / "present")
    await identity(tmp_path / "m", former).serving(former)  # type: ignore[arg-type]
    await identity(tmp_path / "m", former).serving(former)  # type: ignore[arg-type]
    assert former.asked == [SERVING_SIGNER]
    await identity(tmp_path / "m", present).serving(present)  # type: ignore[arg-type]
    assert present.asked == [SERVING_SIGNER]


async def test_who_is_refused_by_another_cell_stays_in_his_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = Signer(tmp_path / "own"), Signer(tmp_path / "other")
    one = identity(tmp_path / "m", own)

    async def refuse(*arguments: object) -> bytes:
        raise unauthorized()

    monkeypatch.setattr(Identity, "_certify", refuse)
    with pytest.raises(CorralError, match="token is unknown"):
        await one.introduce(other.pki.ca_pem, "aaaaaa.bbbbbbbbbbbbbbbb")
    assert one.authority == own.pki.ca_pem


def test_a_joined_machine_is_no_place_for_a_cell(tmp_path: Path) -> None:
    MEMBERSHIP.save(tmp_path)
    done = CliRunner().invoke(up.command, ["--data-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "corral join --data-dir" in done.output
    assert Membership.load(tmp_path) == MEMBERSHIP
