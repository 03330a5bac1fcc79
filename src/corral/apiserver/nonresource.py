"""Paths that are no resources: version, health, metrics, OpenAPI documents, discovery, token issuer metadata."""

import platform
from collections.abc import Awaitable, Callable

import orjson

from corral.apiserver.auth.tokens import JWKS_PATH, TokenIssuer
from corral.apiserver.context import JSON, Call, Reply
from corral.apiserver.discovery import Discovery
from corral.apiserver.metrics import Metrics
from corral.apiserver.openapi import OpenApi
from corral.kinds.status import method_not_allowed, path_not_found
from corral.store.protocol import Store

TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0",
    "gitCommit": "",
    "gitTreeState": "",
    "buildDate": "2026-04-22T00:00:00Z",
    "goVersion": "",
    "compiler": "cpython",
    "platform": f"linux/{'arm64' if platform.machine() == 'aarch64' else 'amd64'}",
}
"""The Kubernetes version whose API this is."""
_HEALTH = ("healthz", "livez", "readyz")
_CHECKS = ("ping", "log", "store")


class NonResources:
    """Answers for everything that is not a resource."""

    def __init__(
        self, store: Store, discovery: Discovery, openapi: OpenApi, metrics: Metrics, tokens: TokenIssuer | None
    ) -> None:
        self._store = store
        self._discovery = discovery
        self._openapi = openapi
        self._metrics = metrics
        self._tokens = tokens
        self.ready: Callable[[], bool] = lambda: True

    def reply(self, call: Call) -> Reply | Awaitable[Reply]:
        """The answer at `call.path`.

        Raises:
            StatusError: 404 or 405.
        """
        parts = call.path.rstrip("/").split("/")[1:]
        head = parts[0] if parts else ""
        if call.method not in ("GET", "HEAD"):
            raise method_not_allowed() if head in (*_HEALTH, "version", "metrics", "api", "apis") else path_not_found()
        if head in _HEALTH and len(parts) <= 2:
            return self._health(call, head, parts[1:])
        if parts == ["version"]:
            return Reply(200, orjson.dumps(VERSION))
        if parts == ["metrics"]:
            return Reply(200, self._metrics.render(self._store.revision), METRICS)
        if head == "openapi":
            return self._openapi.reply(call, parts[1:])
        if head in ("api", "apis"):
            return self._discovery.reply(call)
        if not head:
            return Reply(200, orjson.dumps({"paths": self._paths()}))
        if self._tokens is not None and call.path in (JWKS_PATH, "/.well-known/openid-configuration"):
            return self._issuer(self._tokens, call.path)
        raise path_not_found()

    def _issuer(self, tokens: TokenIssuer, path: str) -> Reply:
        if path == JWKS_PATH:
            return Reply(200, orjson.dumps(tokens.jwks()), "application/jwk-set+json")
        return Reply(200, orjson.dumps(tokens.openid_configuration(tokens.issuer + JWKS_PATH)), JSON)

    def _health(self, call: Call, which: str, rest: list[str]) -> Reply:
        if rest and rest[0] not in _CHECKS:
            raise path_not_found()
        wanted = rest or [check for check in _CHECKS if check not in call.query.get("exclude", "").split(",")]
        passed = {check: self._passes(which, check) for check in wanted}
        good = all(passed.values())
        status = 200 if good else 500
        if good and (rest or "verbose" not in call.query):
            return Reply(status, b"ok", TEXT)
        lines = [f"[+]{check} ok" if ok else f"[-]{check} failed: reason withheld" for check, ok in passed.items()]
        lines.append(f"{which} check {'passed' if good else 'failed'}")
        return Reply(status, ("\n".join(lines) + "\n").encode(), TEXT)

    def _passes(self, which: str, check: str) -> bool:
        return self.ready() if check == "store" and which == "readyz" else True

    def _paths(self) -> list[str]:
        paths = ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
        for group, versions in self._discovery.groups().items():
            base = f"/apis/{group}" if group else "/api"
            paths += [base, *(f"{base}/{version}" for version in versions)]
        return sorted(set(paths))
