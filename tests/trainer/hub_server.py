"""A small hub on this machine: it serves folders as models, by the addresses that clients ask."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from typing_extensions import override

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves `<root>/<organisation>/<name>/` and notes the files that were fetched."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.fetched: list[str] = []
        self.breaks_off = False
        """Whether files end in the middle."""

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(root: Path) -> Iterator[Hub]:
    """Serve the models below `root`."""
    with Hub(root) as hub:
        thread = Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        """Tell what a file is like."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """Serve a file, or what a model consists of."""
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        match urlsplit(self.path).path.strip("/").split("/"):
            case ["api", "models", organisation, name, "revision", _]:
                folder = self.server.root / organisation / name
                files = sorted(path.name for path in folder.iterdir())
                told = {"id": f"{organisation}/{name}", "sha": COMMIT}
                told |= {"siblings": [{"rfilename": file} for file in files]}
                self._send(json.dumps(told).encode(), "application/json", with_body=with_body)
            case ["api", "models", organisation, name, "tree", _]:
                folder = self.server.root / organisation / name
                tree = [
                    {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": COMMIT}
                    for path in sorted(folder.iterdir())
                ]
                self._send(json.dumps(tree).encode(), "application/json", with_body=with_body)
            case [organisation, name, "resolve", _, file]:
                path = self.server.root / organisation / name / file
                if not path.is_file():
                    self._send(b"", "text/plain", HTTPStatus.NOT_FOUND, with_body=with_body)
                    return
                if with_body:
                    self.server.fetched.append(file)
                self._send(path.read_bytes(), "application/octet-stream", with_body=with_body)
            case _:
                self._send(b"", "text/plain", HTTPStatus.NOT_FOUND, with_body=with_body)

    def _send(
        self,
        body: bytes,
        content_type: str,
        status: HTTPStatus = HTTPStatus.OK,
        *,
        with_body: bool,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        if status is HTTPStatus.OK:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if with_body:
            self.wfile.write(body[: len(body) // 2] if self.server.breaks_off else body)
            self.close_connection = self.server.breaks_off

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
