"""The HTTP endpoint of rank 0: `/metrics`, `/history?since=STEP` and `/healthz`.

What the metrics are and what a record holds is decided in `contract`. Training does not depend on
being watched: an endpoint that cannot be opened is a warning.
"""

import logging
import re
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY, has_dualstack_ipv6
from socketserver import TCPServer
from threading import Thread
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from typing_extensions import override

from rlhf_trainer.telemetry.history import HistoryFile

logger = logging.getLogger(__name__)

_IDLE_SECONDS = 30.0
"""A client that neither asks nor reads for so long is let go."""

_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class _Reply:
    status: HTTPStatus
    content_type: str
    body: bytes


class Exporter:
    """Serves until it is closed, from threads that never keep the process alive."""

    def __init__(self, server: "_Server") -> None:
        self._server = server
        self._thread = Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    @classmethod
    def start(cls, port: int, collector: Collector, history: HistoryFile) -> Self | None:
        """Serve on `port` of every interface, or for port 0 on any free one of this machine only.

        Returns None, with a warning, where the port cannot be had: training goes on.
        """
        registry = CollectorRegistry()
        registry.register(collector)
        try:
            server = _bound(port, registry, history)
        except OSError as error:
            logger.warning(
                "metrics-port=%d: cannot be opened (%s); training goes on without /metrics, "
                "choose another port to see it",
                port,
                error.strerror,
            )
            return None
        return cls(server)

    @property
    def port(self) -> int:
        """The port that is served."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _bound(port: int, registry: CollectorRegistry, history: HistoryFile) -> "_Server":
    if not port:
        return _Server(("127.0.0.1", 0), registry, history)
    # Prometheus comes from outside the pod, which may have IPv4, IPv6 or both.
    if has_dualstack_ipv6():
        with suppress(OSError):
            return _DualStackServer(("::", port), registry, history)
    return _Server(("0.0.0.0", port), registry, history)  # noqa: S104 - see above


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], registry: CollectorRegistry, history: HistoryFile
    ) -> None:
        self.registry = registry
        self.history = history
        super().__init__(address, _Handler)

    @override
    def server_bind(self) -> None:
        # HTTPServer would look its own name up, which takes seconds where there is no DNS.
        TCPServer.server_bind(self)


class _DualStackServer(_Server):
    address_family = AF_INET6

    @override
    def server_bind(self) -> None:
        self.socket.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 0)
        super().server_bind()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _IDLE_SECONDS
    protocol_version = "HTTP/1.1"
    server_version = "rlhf-trainer"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one request."""
        target = urlsplit(self.path)
        reply = self._reply(target.path, target.query)
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def _reply(self, path: str, query: str) -> _Reply:
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            return _Reply(HTTPStatus.OK, content_type, encode(self.server.registry))
        if path == "/history":
            return self._history(query)
        if path == "/healthz":
            return _Reply(HTTPStatus.OK, _TEXT, b"ok\n")
        return _Reply(HTTPStatus.NOT_FOUND, _TEXT, b"try /metrics, /history?since=STEP, /healthz\n")

    def _history(self, query: str) -> _Reply:
        asked = parse_qsl(query, keep_blank_values=True)
        if (
            len(asked) != 1
            or asked[0][0] != "since"
            or not re.fullmatch(r"-?\d{1,12}", asked[0][1])
        ):
            text = b"ask for /history?since=STEP, with a whole number: -1 for all steps\n"
            return _Reply(HTTPStatus.BAD_REQUEST, _TEXT, text)
        page = self.server.history.page(int(asked[0][1]))
        return _Reply(HTTPStatus.OK, "application/x-ndjson", page)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a line per scrape would bury the steps."""
