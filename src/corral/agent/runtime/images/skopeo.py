"""Fetching images: skopeo copies from a registry, an archive or a layout into an OCI layout of ours."""

import base64
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from corral.agent.runtime import spawn
from corral.agent.runtime.api import ImageAuth, RuntimeFailure
from corral.agent.runtime.images.reference import Reference

POLICY = Path("/etc/containers/policy.json")
_MESSAGE = re.compile(r'msg="(?P<words>(?:[^"\\]|\\.)*)"')


def words(output: str) -> str:
    """What skopeo says was wrong, without its log decoration: the registry's own words."""
    found = _MESSAGE.findall(output)
    if not found:
        return " ".join(output.split()) or "skopeo ended without a word"
    return str(found[-1]).replace('\\"', '"').replace("\\n", " ")


def login(registry: str, auth: ImageAuth) -> bytes:
    """The content of an auth file (containers-auth.json(5)) for one registry."""
    secret = base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
    names = {registry, "https://index.docker.io/v1/"} if registry == "docker.io" else {registry}
    return json.dumps({"auths": {name: {"auth": secret} for name in sorted(names)}}).encode()


async def copy(source: str, layout: Path, blobs: Path, *options: str) -> None:
    """Copy one image from `source` (skopeo's notation) into a new OCI layout whose blobs lie in `blobs`.

    Raises:
        RuntimeFailure: `ErrImagePull`.
    """
    policy = [] if POLICY.exists() else ["--insecure-policy"]
    target = ["--dest-shared-blob-dir", str(blobs), f"oci:{layout}:image"]
    argv = ["skopeo", *policy, "copy", "--quiet", "--retry-times", "1", *options, source, *target]
    try:
        done = await spawn.run(argv)
    except FileNotFoundError as error:
        raise RuntimeFailure(
            "ErrImagePull",
            "cannot fetch images: skopeo is not installed",
            "apt-get install -y --no-install-recommends skopeo",
        ) from error
    if done.code:
        raise RuntimeFailure("ErrImagePull", words(done.stderr.decode(errors="replace")))


async def pull(reference: Reference, auths: Sequence[ImageAuth], layout: Path, blobs: Path) -> None:
    """Fetch from a registry, with each of `auths` until one works, or without any.

    Raises:
        RuntimeFailure: `ErrImagePull`, with the registry's own words.
    """
    options = ["--src-tls-verify=false"] if reference.loopback else []
    failure: RuntimeFailure | None = None
    for number, auth in enumerate(auths or (None,)):
        login_options: list[str] = []
        if auth is not None:
            path = layout.with_name(f"{layout.name}.auth{number}")
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(login(reference.registry, auth))
            login_options = ["--src-authfile", str(path)]
        try:
            await copy(f"docker://{reference}", layout, blobs, *options, *login_options)
        except RuntimeFailure as error:
            failure = error
        else:
            return
        finally:
            if auth is not None:
                path.unlink()
    if failure is not None:
        raise RuntimeFailure("ErrImagePull", f'cannot pull "{reference}": {failure.message}', failure.remedy)
