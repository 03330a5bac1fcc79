"""Where the API is and who we are, from a kubeconfig.

The rules are kubectl's: an explicit path, else every file in `$KUBECONFIG` merged (the first that sets a name wins, and
the first that sets `current-context`), else `~/.kube/config`. Relative paths in a file are relative to that file.
"""

import base64
import binascii
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from corral.base.errors import CorralError

if TYPE_CHECKING:
    from corral.client.http import HttpTransport


SERVERS = "corral.dev/servers"
"""Extension of a cluster: the URLs of all servers of the cell. kubectl keeps it and goes by `server` alone."""


class KubeconfigError(CorralError):
    """A kubeconfig that cannot be used; the message names the file and the field."""


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """What is needed to reach one API server as one user."""

    server: str
    namespace: str = "default"
    context: str = ""
    ca_pem: str = ""
    """Whom to trust; empty: the system's authorities."""
    insecure: bool = False
    """Do not verify the server (`insecure-skip-tls-verify`)."""
    server_name: str = ""
    certificate_pem: str = ""
    key_pem: str = ""
    token: str = ""
    others: tuple[str, ...] = ()
    """More servers of the same cell."""

    def __repr__(self) -> str:
        return f"Access(server={self.server!r}, namespace={self.namespace!r}, context={self.context!r})"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Trust and client certificate; None for plain HTTP.

        Raises:
            KubeconfigError: a certificate or key cannot be read.
        """
        if not self.server.startswith("https:"):
            return None
        try:
            context = ssl.create_default_context(cadata=self.ca_pem or None)
        except ssl.SSLError as error:
            raise KubeconfigError(
                f"cannot read certificate-authority of the cluster at {self.server}: {error}"
            ) from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate_pem:
            try:
                with _memory_file(self.certificate_pem + "\n" + self.key_pem) as path:
                    context.load_cert_chain(path)
            except ssl.SSLError as error:
                raise KubeconfigError(f"cannot use client-certificate and client-key together: {error}") from error
        return context

    def transport(self) -> "HttpTransport":
        """A transport with this access; the HTTP library is loaded only now."""
        from corral.client.http import HttpTransport

        return HttpTransport(self.server, self.ssl_context(), self.token, server_name=self.server_name)


@contextmanager
def _memory_file(text: str) -> Iterator[str]:
    """A path under which `text` can be read, although it is on no disk (OpenSSL takes keys from paths only)."""
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def paths(path: Path | str | None = None) -> list[Path]:
    """The files to read: `path` alone, else those of `$KUBECONFIG`, else `~/.kube/config`."""
    if path:
        return [Path(path)]
    listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return listed or [Path.home() / ".kube" / "config"]


def load(path: Path | str | None = None, context: str | None = None) -> Access:
    """The access that a context (default: the current one) gives.

    Raises:
        KubeconfigError: no file, or one that is not understood, with the field's name.
    """
    files = paths(path)
    merged = _Merged()
    for file in files:
        if file.exists() or path:
            merged.add(file)
    if not merged.files:
        names = ", ".join(map(str, files))
        raise KubeconfigError(
            f"cannot find a kubeconfig: {names} does not exist",
            "start a cell with `corral up`, or set KUBECONFIG to the kubeconfig of one",
        )
    return merged.access(context)


_NOTHING: Mapping[str, Any] = {}


class _Merged:
    """Several kubeconfigs as one."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.current = ""
        self.entries: dict[str, dict[str, tuple[Path, Mapping[str, Any]]]] = {"cluster": {}, "user": {}, "context": {}}

    def add(self, file: Path) -> None:
        try:
            document = yaml.safe_load(file.read_text()) or {}
        except OSError as error:
            raise KubeconfigError(f"cannot read kubeconfig {file}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise KubeconfigError(f"cannot read kubeconfig {file}: it is not YAML: {error}") from error
        if not isinstance(document, dict):
            raise KubeconfigError(f"cannot read kubeconfig {file}: it is not a mapping")
        self.files.append(file)
        self.current = self.current or document.get("current-context") or ""
        for kind, entries in self.entries.items():
            listed = document.get(f"{kind}s") or []
            if not isinstance(listed, list):
                raise KubeconfigError(f"cannot read kubeconfig {file}: {kind}s is not a list")
            for position, item in enumerate(listed):
                if not isinstance(item, dict) or not isinstance(item.get("name"), str):
                    raise KubeconfigError(f"cannot read kubeconfig {file}: {kind}s[{position}].name is missing")
                entries.setdefault(item["name"], (file, item.get(kind) or {}))

    def access(self, context: str | None) -> Access:
        name = context or self.current
        where = ", ".join(map(str, self.files))
        if not name:
            raise KubeconfigError(
                f"cannot choose a context: current-context is not set in {where}",
                f"name one of: {', '.join(self.entries['context']) or 'none is defined'}",
            )
        _, chosen = self._entry("context", name, f"current-context of {where}")
        cluster_file, cluster = self._entry("cluster", chosen.get("cluster") or "", f"contexts[{name}].context.cluster")
        user_file, user = Path(), _NOTHING
        if chosen.get("user"):
            user_file, user = self._entry("user", chosen["user"], f"contexts[{name}].context.user")
        server = cluster.get("server")
        if not isinstance(server, str) or not server.startswith(("https://", "http://")):
            field = f"clusters[{chosen.get('cluster')}].cluster.server"
            raise KubeconfigError(f"cannot use {cluster_file}: {field} must be a URL, it is {server!r}")
        cluster_reader = _Reader(cluster_file, f"clusters[{chosen.get('cluster')}].cluster", cluster)
        user_reader = _Reader(user_file, f"users[{chosen.get('user')}].user", user)
        user_reader.refuse("exec", "auth-provider", "username")
        certificate, key = user_reader.pem("client-certificate"), user_reader.pem("client-key")
        if bool(certificate) != bool(key):
            missing = "client-key" if certificate else "client-certificate"
            raise KubeconfigError(f"cannot use {user_file}: {user_reader.prefix}.{missing} is missing")
        return Access(
            server=server,
            namespace=chosen.get("namespace") or "default",
            context=name,
            ca_pem=cluster_reader.pem("certificate-authority"),
            insecure=bool(cluster.get("insecure-skip-tls-verify")),
            server_name=cluster.get("tls-server-name") or "",
            certificate_pem=certificate,
            key_pem=key,
            token=user_reader.token(),
            others=tuple(url for url in _servers(cluster) if url != server),
        )

    def _entry(self, kind: str, name: str, named_by: str) -> tuple[Path, Mapping[str, Any]]:
        found = self.entries[kind].get(name)
        if found is None:
            known = ", ".join(self.entries[kind]) or "none"
            raise KubeconfigError(
                f"cannot find {kind} {name!r}, which {named_by} names", f"{kind}s that are defined: {known}"
            )
        return found


def _servers(cluster: Mapping[str, Any]) -> list[str]:
    """What the extension says; whatever cannot be understood is somebody else's."""
    extensions = cluster.get("extensions")
    for item in extensions if isinstance(extensions, list) else ():
        if isinstance(item, dict) and item.get("name") == SERVERS:
            urls = item.get("extension")
            return [url for url in urls if isinstance(url, str)] if isinstance(urls, list) else []
    return []


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads values that stand in the file as data or as the path of another file."""

    file: Path
    prefix: str
    fields: Mapping[str, Any]

    def pem(self, field: str) -> str:
        data = self.fields.get(f"{field}-data")
        if data:
            try:
                return base64.b64decode(data, validate=True).decode()
            except (binascii.Error, ValueError) as error:
                raise KubeconfigError(f"cannot use {self.file}: {self.prefix}.{field}-data is not base64") from error
        return self._file(field)

    def token(self) -> str:
        return str(self.fields.get("token") or "") or self._file("tokenFile").strip()

    def refuse(self, *fields: str) -> None:
        for field in fields:
            if self.fields.get(field):
                raise KubeconfigError(
                    f"cannot use {self.file}: {self.prefix}.{field} is not supported",
                    "use a client certificate, token or tokenFile",
                )

    def _file(self, field: str) -> str:
        name = self.fields.get(field)
        if not name:
            return ""
        path = self.file.parent / str(name)
        try:
            return path.read_text()
        except OSError as error:
            raise KubeconfigError(
                f"cannot use {self.file}: {self.prefix}.{field}: cannot read {path}: {error.strerror}"
            ) from error
