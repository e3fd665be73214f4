"""Driving one run to its end on this machine: pass after pass, until it is over or interrupted.

Ctrl-C (or SIGTERM, or a closed terminal) once lets the phase end at its next step; Ctrl-C (or
SIGTERM) after that ends it at once. What to do in a pass is decided in `decide`.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from rlhf_operator.api import RLHFRun, RunStatus
from rlhf_operator.decide import Event, events
from rlhf_operator.local import LocalBackend
from rlhf_operator.reconcile import Clock, Reconciler

POLL_SECONDS = 0.25
"""Time between passes: short beside the shortest phase, long beside a pass."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Display(Protocol):
    """What people see of a run while it goes on."""

    def tell(self, event: Event) -> None:
        """Say what has happened."""

    def show(self, status: RunStatus) -> None:
        """Show how far the run has come."""


async def drive(run: RLHFRun, backend: LocalBackend, display: Display, clock: Clock) -> RunStatus:
    """Drive `run` until it has ended, or pauses because it was interrupted."""
    reconciler = Reconciler(backend, clock)
    status = run.status
    with _interrupts(backend, display) as interrupted, _nothing_left_behind(backend):
        while True:
            decision = await reconciler.reconcile(run.key)
            assert decision is not None, "the run was stored before"  # noqa: S101 -- our own
            for event in events(status, decision.status):
                display.tell(event)
            status = decision.status
            display.show(status)
            if status.outcome is not None or (backend.suspended and status.live is None):
                return status
            await _wait(interrupted)


async def _wait(interrupted: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(interrupted.wait(), POLL_SECONDS)
    interrupted.clear()


@contextmanager
def _interrupts(backend: LocalBackend, display: Display) -> Iterator[asyncio.Event]:
    """Turn the first signal into a pause and every further one into a kill."""
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()

    def interrupt(number: signal.Signals) -> None:
        if not backend.suspended:
            backend.suspended = True
            message = "ending the phase at its next step; interrupt again to end it at once"
        elif number is signal.SIGHUP:
            # One closed terminal sends several: the kernel's, the shell's, the kernel's again.
            return
        else:
            backend.kill()
            message = "ending the phase at once"
        interrupted.set()
        # Last: whatever keeps it from being said, it is done.
        display.tell(Event("Interrupted", message, is_warning=True))

    # What the caller ignores (nohup, a shell's background) stays ignored.
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heard:
        loop.add_signal_handler(number, interrupt, number)
    try:
        yield interrupted
    finally:
        for number in heard:
            loop.remove_signal_handler(number)


@contextmanager
def _nothing_left_behind(backend: LocalBackend) -> Iterator[None]:
    """Whatever goes wrong here, no trainer goes on unseen."""
    try:
        yield
    except BaseException:
        backend.close()
        raise
