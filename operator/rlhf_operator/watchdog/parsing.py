"""What the trainer's endpoint says, taken only if all of it makes sense."""

import math
import re
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from rlhf_trainer.contract import HistoryRecord
from rlhf_trainer.contract.metrics import METRICS_BY_NAME, PREFIX

HEARTBEAT = METRICS_BY_NAME["heartbeat"].series
CHECKPOINT = METRICS_BY_NAME["checkpoint_step"].series
STEP = METRICS_BY_NAME["step"].series
CERTIFIED = METRICS_BY_NAME["certified_step"].name
RUN_INFO = METRICS_BY_NAME["run"].series

_READ = frozenset({HEARTBEAT, CHECKPOINT, STEP})

_SAMPLE = re.compile(rf"({PREFIX}\w+) ([-+.\w]+)(?: -?\d+)?")
"""A sample without labels."""

_LABEL = re.compile(r'[{,](\w+)="([^"]*)"')
"""A label and its value: none of ours holds a character that would be escaped. What comes before it
keeps the search from beginning anew at each letter of a name that has no end.
"""

MAXIMUM_RECORDS = 5_000
"""In a page: the trainer's has a thousand, and more only where one step has more."""

MAXIMUM_VALUES = 1_000
"""In a record: the trainer's has a value for each metric and its labels."""

MAXIMUM_COUNT = 10**12
"""Above this, it is no count of steps or micro-batches: the API server would refuse it."""


def parse_metrics(body: bytes, labels: Mapping[str, str]) -> dict[str, float] | None:
    """Return the samples that are read of it, by series; None if this is not that trainer's page.

    `labels` are those of `rlhf_run_info`: addresses are given out again, and what answers there now
    may belong to another run. Trainers of other versions may tell fewer of them, or none.
    """
    try:
        lines = body.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return None
    if any(labels.get(name, value) != value for name, value in _told_labels(lines)):
        return None
    samples: dict[str, float] = {}
    for line in lines:
        match = _SAMPLE.fullmatch(line)
        if match is None or match[1] not in _READ:
            continue
        value = _number(match[2])
        if value is not None and math.isfinite(value):
            samples[match[1]] = value
    return samples if 0 <= samples.get(HEARTBEAT, -1) <= MAXIMUM_COUNT else None


def _told_labels(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Return what a page says about whose it is."""
    for line in lines:
        if line.startswith(RUN_INFO + "{"):
            yield from _LABEL.findall(line)


def parse_history(body: bytes, since: int) -> list[HistoryRecord] | None:
    """Return the records after `since`, oldest first; None if this is no page of a history."""
    records = []
    last = since
    lines = body.splitlines()
    if len(lines) > MAXIMUM_RECORDS:
        return None
    for line in lines:
        try:
            record = HistoryRecord.model_validate_json(line)
        except (ValidationError, ValueError):
            return None
        if len(record.values) > MAXIMUM_VALUES:
            return None
        certified = record.values.get(CERTIFIED, 0)
        if math.isfinite(certified) and not 0 <= certified <= MAXIMUM_COUNT:
            return None
        # Several records may have a step: a measurement, and what became of it.
        if not max(last, since + 1) <= record.step <= MAXIMUM_COUNT:
            return None
        last = record.step
        records.append(record)
    return records


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
