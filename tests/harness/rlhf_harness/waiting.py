"""Waiting for conditions: nothing in the harness waits for time."""

import http.client
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from rlhf_harness.errors import HarnessError


def until(
    condition: Callable[[], bool],
    what: str | Callable[[], str],
    *,
    timeout_seconds: float = 30,
    every_seconds: float = 0.1,
) -> None:
    """Return once `condition` holds; HarnessError naming `what` if it does not in time.

    Args:
        condition: asked again and again; what it raises ends the wait.
        what: completes "timed out waiting for …"; a function can tell what was seen last.
        timeout_seconds: how long to go on asking.
        every_seconds: the pause between two questions.
    """
    pause = threading.Event()  # never set: a wait on it is a sleep
    end = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= end:
            seen = what if isinstance(what, str) else what()
            raise HarnessError(f"timed out after {timeout_seconds:g} s waiting for {seen}")
        pause.wait(every_seconds)


def answers(url: str, *, ca: Path | None = None) -> bool:
    """Whether GET on this address answers 200 within two seconds; the certificate is checked."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        connection = http.client.HTTPSConnection(host, port, timeout=2, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return False
    else:
        return response.status == http.client.OK
    finally:
        connection.close()
