"""Writes a kubeconfig: how kubectl and every other client find the cell and prove who they are."""

import base64
from collections.abc import Sequence
from pathlib import Path

import yaml

from corral.apiserver.auth.files import write_private
from corral.client.kubeconfig import SERVERS
from corral.kinds.types import Obj


def write(
    path: Path,
    server: str,
    ca_pem: bytes,
    cert_pem: bytes,
    key_pem: bytes,
    cluster_name: str,
    user: str = "admin",
    *,
    servers: Sequence[str] = (),
) -> None:
    """Write the file whole, with mode 0600. `server` is a URL such as https://127.0.0.1:6443, `servers` those of all.

    Raises:
        OSError: it cannot be written.
    """
    document = config(server, ca_pem, cert_pem, key_pem, cluster_name, user)
    if len(servers) > 1:
        extension = {"name": SERVERS, "extension": list(servers)}
        document["clusters"][0]["cluster"]["extensions"] = [extension]
    write_private(path, yaml.safe_dump(document, sort_keys=False).encode())


def config(server: str, ca_pem: bytes, cert_pem: bytes, key_pem: bytes, cluster_name: str, user: str) -> Obj:
    """The kubeconfig as an object, with one cluster, one user and one context."""
    login = f"{cluster_name}-{user}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": cluster_name, "cluster": {"server": server, "certificate-authority-data": _base64(ca_pem)}}
        ],
        "users": [
            {
                "name": login,
                "user": {"client-certificate-data": _base64(cert_pem), "client-key-data": _base64(key_pem)},
            }
        ],
        "contexts": [{"name": cluster_name, "context": {"cluster": cluster_name, "user": login}}],
        "current-context": cluster_name,
    }


def cluster_only(server: str, ca_pem: bytes) -> Obj:
    """A kubeconfig without a user: where the API is and whom to trust (kubeadm's cluster-info)."""
    cluster = {"server": server, "certificate-authority-data": _base64(ca_pem)}
    return {"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "", "cluster": cluster}]}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
