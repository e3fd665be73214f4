"""One reading of one attempt: its metrics, and every step since the last reading."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from pydantic.alias_generators import to_camel

from rlhf_operator.watchdog.fetching import fetch
from rlhf_operator.watchdog.parsing import (
    CHECKPOINT,
    HEARTBEAT,
    MAXIMUM_COUNT,
    MAXIMUM_RECORDS,
    STEP,
    parse_history,
    parse_metrics,
)
from rlhf_trainer.contract import METRICS_BY_NAME, METRICS_PORT, HistoryRecord

_SHOWN_AS = {name: to_camel(name) for name in METRICS_BY_NAME}

MAXIMUM_PAGES = 20
"""Pages of history in one reading; the rest comes with the next one."""

PAGES_SECONDS = 5.0
"""How long a reading goes on asking for pages: a slow pod must not keep others from their turn."""


@dataclass(frozen=True)
class Reading:
    """What one look at an attempt brought."""

    heartbeat: int
    records: tuple[HistoryRecord, ...]
    checkpoint_step: int | None = None


@dataclass(frozen=True)
class Reader:
    """Reads over one session."""

    session: aiohttp.ClientSession
    port: int = METRICS_PORT

    async def read(self, address: str, since: int, labels: Mapping[str, str]) -> Reading | None:
        """Return what an attempt with these labels shows.

        None if any of it cannot be had, makes no sense, or is another attempt's.
        """
        host = f"[{address}]" if ":" in address else address
        base = f"http://{host}:{self.port}"
        body = await fetch(self.session, f"{base}/metrics")
        samples = parse_metrics(body, labels) if body is not None else None
        if samples is None:
            return None
        records: list[HistoryRecord] = []
        clock = asyncio.get_running_loop().time
        end = clock() + PAGES_SECONDS
        for number in range(MAXIMUM_PAGES):
            # Where it has taken no more steps than these, the next page would be empty.
            if since >= samples.get(STEP, math.inf) or (number and clock() >= end):
                break
            if len(records) > MAXIMUM_RECORDS:
                # So many at a time, and the rest with the next reading.
                break
            body = await fetch(self.session, f"{base}/history?since={since}")
            if body is None and records:
                # What came before it makes sense; a slow pod would never get on otherwise.
                break
            page = parse_history(body, since) if body is not None else None
            if page is None:
                return None
            if not page:
                break
            records += page
            since = page[-1].step
        return Reading(int(samples[HEARTBEAT]), tuple(records), _step(samples.get(CHECKPOINT)))


def _step(value: float | None) -> int | None:
    return int(value) if value is not None and 0 <= value <= MAXIMUM_COUNT else None


def shown_metrics(record: HistoryRecord) -> dict[str, float]:
    """Return a record's values as a status shows them; series with labels stay in the history.

    A pod may say anything: what is no metric of the contract is left out.
    """
    return {
        _SHOWN_AS[name]: value
        for name, value in record.values.items()
        if name in _SHOWN_AS and math.isfinite(value)
    }
