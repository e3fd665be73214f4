"""What every room shares: which tests this machine can run, and what is said about the others.

RLHF_TEST_REQUIRE=all turns every skip into a failure, so that CI cannot pass by leaving tests out;
tests marked `gpu` are deselected without a GPU, which is not a skip. RLHF_TEST_NOTES names a file
to which a summary of both is added, for whoever runs several rooms. RLHF_TEST_RECORD names a file
to which tests of recovery add what they saw; docs/reliability.md is made from it.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

_REQUIRE = "RLHF_TEST_REQUIRE"
_NOTES = "RLHF_TEST_NOTES"
_RECORD = "RLHF_TEST_RECORD"
_NOTED = pytest.StashKey[dict[str, str]]()
"""Why a test was left out, by its id: several processes may say so of the same one."""


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a misspelt requirement: it would require nothing."""
    if (value := os.environ.get(_REQUIRE, "")) not in ("", "all"):
        msg = f"{_REQUIRE}={value}: unknown; use all, or leave it out"
        raise pytest.UsageError(msg)
    config.stash[_NOTED] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect `gpu` tests where no GPU answers."""
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu or _gpu_answers():
        return
    items[:] = [item for item in items if item not in gpu]
    config.hook.pytest_deselected(items=gpu)
    what = "deselected: no GPU answers here"
    config.stash[_NOTED] |= {item.nodeid: what for item in gpu}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note a skipped test, or fail it where all are required; keep a fault that was survived."""
    report = yield
    fault = item.get_closest_marker("fault")
    if fault is not None and report.when == "call" and report.passed:
        what, then = fault.args
        _keep({"table": "handled", "fault": what, "then": then})
    if report.skipped and not hasattr(report, "wasxfail"):
        _note_skip(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a module that skips itself as a whole."""
    report = yield
    if report.skipped:
        _note_skip(collector.config, report)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the notes of one of several processes to the one that sums up."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash[_NOTED]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the notes of one of pytest-xdist's processes."""
    node.config.stash[_NOTED] |= getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say what was left out, and why."""
    counted = Counter(config.stash[_NOTED].values())
    lines = [f"{count} x {what}" for what, count in sorted(counted.items())]
    if not lines or hasattr(config, "workerinput"):
        return
    terminalreporter.section("left out", sep="-")
    for line in lines:
        terminalreporter.write_line(line)
    if path := os.environ.get(_NOTES):
        with Path(path).open("a", encoding="utf-8") as notes:
            notes.writelines(f"{line}\n" for line in lines)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a line at once: what takes minutes is to be watched."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", end="", flush=True)  # noqa: T201 -- for people

    return line


@pytest.fixture
def record() -> Callable[..., None]:
    """Keep a row of a table of docs/reliability.md, where somebody asks for it."""

    def row(table: str, **cells: Any) -> None:
        _keep({"table": table, **cells})

    return row


def _keep(row: dict[str, Any]) -> None:
    if path := os.environ.get(_RECORD):
        with Path(path).open("a", encoding="utf-8") as rows:
            rows.write(json.dumps(row) + "\n")


def _note_skip(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if os.environ.get(_REQUIRE) == "all":
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped, and {_REQUIRE}=all allows none: {reason}"
        return
    config.stash[_NOTED][report.nodeid] = f"skipped: {reason}"


def _gpu_answers() -> bool:
    if find_spec("torch") is None:
        return False
    import torch  # noqa: PLC0415 - takes seconds, and only tests of GPUs need the answer

    return bool(torch.cuda.is_available())
