"""A serving program: answers over HTTP who it is and where it runs, until it is told to end."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hello(BaseHTTPRequestHandler):
    """One answer for every path."""

    def do_GET(self) -> None:
        body = json.dumps({"hello": self.client_address[0], "from": os.uname().nodename, "path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body + b"\n")


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"serving on port {port}", flush=True)
    ThreadingHTTPServer(("", port), Hello).serve_forever()


if __name__ == "__main__":
    main()
