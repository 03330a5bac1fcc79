"""TLS sessions that are taken up again: a client's second handshake costs both sides half as much as the first.

asyncio has no place for a session, but it asks the context for each connection's TLS object. The session of the newest
connection to a host is used for the next one; with TLS 1.3 it arrives after the handshake, so it is looked for when it
is needed. A server that does not know it any more makes a whole handshake.
"""

import ssl
from contextlib import suppress
from typing import Any


class ResumingContext(ssl.SSLContext):
    """A client's context that remembers one session for each host."""

    def __init__(self, *_: Any) -> None:
        self._newest: dict[str | None, ssl.SSLObject] = {}
        self._sessions: dict[str | None, ssl.SSLSession] = {}

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """A TLS object that offers the host the session of the connection before."""
        host = server_hostname.decode() if isinstance(server_hostname, bytes) else server_hostname
        made = super().wrap_bio(incoming, outgoing, server_side, host, session or self._session(host))
        self._newest[host] = made
        return made

    def load_cert_chain(self, *arguments: Any, **options: Any) -> None:
        """Show another certificate from now on: a session stands for the one that it began with."""
        super().load_cert_chain(*arguments, **options)
        self._newest.clear()
        self._sessions.clear()

    def _session(self, host: str | None) -> ssl.SSLSession | None:
        newest = self._newest.pop(host, None)
        if newest is not None:
            with suppress(ValueError):  # within its handshake, it has a session that cannot be copied yet
                session = newest.session
                if session is not None and session.has_ticket:
                    self._sessions[host] = session
        return self._sessions.get(host)
