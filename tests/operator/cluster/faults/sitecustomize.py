"""Faults of real pods: Python imports this before anything else where it is on PYTHONPATH.

RLHF_TEST_FAULT=PHASE:FAULT makes a launcher of that phase misbehave.
"""

import os
import resource
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8000
FLOOD_BYTES, CHUNK_BYTES = 100_000_000, 1_000_000
DATA_LIMIT_BYTES = 4 * 2**30
HOUR_SECONDS = 3600

HEARTBEAT = b"# TYPE rlhf_heartbeat counter\nrlhf_heartbeat_total 7\n"
RECORD = '{{"step": {step}, "time": 0, "values": {{"kl_nats": {kl}}}}}\n'


class Endpoint(BaseHTTPRequestHandler):
    """A trainer's endpoint that does one thing wrong."""

    fault = ""

    def do_GET(self) -> None:
        getattr(self, self.fault)()

    def hang(self) -> None:
        time.sleep(HOUR_SECONDS)  # noqa: TID251 - that is what hanging is

    def redirect(self) -> None:
        if self.path.startswith("/elsewhere"):
            # What a reader that follows would believe.
            self._answer(HEARTBEAT)
            return
        self.send_response(302)
        self.send_header("Location", f"http://127.0.0.1:{PORT}/elsewhere")
        self.end_headers()

    def flood(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(FLOOD_BYTES // CHUNK_BYTES):
            self.wfile.write(b"rlhf_kl_nats 99\n" * (CHUNK_BYTES // 16))

    def nan(self) -> None:
        lines = "".join(RECORD.format(step=step, kl='"NaN"') for step in (1, 2, 3))
        is_metrics = self.path.startswith("/metrics")
        self._answer(HEARTBEAT if is_metrics else self._once(lines))

    def absurd(self) -> None:
        lines = RECORD.format(step=1, kl=0.1).replace(
            '"kl_nats"', '"certified_step": 1e300, "kl_nats"'
        )
        is_metrics = self.path.startswith("/metrics")
        huge = HEARTBEAT.replace(b" 7", b" 1e300")
        self._answer(huge if is_metrics else self._once(lines))

    def nonsense(self) -> None:
        self._answer(os.urandom(4096))

    def still(self) -> None:
        is_metrics = self.path.startswith("/metrics")
        self._answer(HEARTBEAT if is_metrics else self._once(RECORD.format(step=1, kl=0.1)))

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _once(self, lines: str) -> bytes:
        """Return the lines to who has not seen them, and nothing to who has."""
        return lines.encode() if self.path.endswith("since=-1") else b""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def misbehave(fault: str) -> None:
    if fault == "little-memory":
        resource.setrlimit(resource.RLIMIT_DATA, (DATA_LIMIT_BYTES, DATA_LIMIT_BYTES))
        return
    if fault == "worker-exits-7":
        if os.environ["PET_NODE_RANK"] == "0":
            return
        os._exit(7)
    # The first process of a container ignores signals that it does not ask for.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    Endpoint.fault = fault
    ThreadingHTTPServer(("", PORT), Endpoint).serve_forever()


phase, _, fault = os.environ.get("RLHF_TEST_FAULT", "").partition(":")
if fault and "rlhf_trainer.launch" in sys.orig_argv and phase in sys.orig_argv:
    misbehave(fault)
