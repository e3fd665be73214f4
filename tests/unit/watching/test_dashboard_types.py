"""Dashboards are what Grafana's published types say; a compiler of TypeScript compares them."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import generate_dashboards

PROJECT = Path(__file__).parents[2] / "grafana"
COPIED = ("package.json", "package-lock.json", ".npmrc", "tsconfig.json", "shapes.ts")
KINDS = {"timeseries": "TimeSeriesPanel", "stat": "StatPanel", "row": "Row"}

SECONDS = 300


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project with its packages, which are kept for the next time."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm, by which Grafana's types are fetched: install Node.js")
    for name in COPIED:
        shutil.copy(PROJECT / name, tmp_path)
    pins = hashlib.sha256((PROJECT / "package-lock.json").read_bytes()).hexdigest()[:16]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = base / "rlhf-operator" / f"grafana-{pins}"
    if not kept.exists():
        done = subprocess.run(
            [npm, "ci"], cwd=tmp_path, capture_output=True, check=False, timeout=SECONDS
        )
        if done.returncode:
            pytest.skip(f"npm could not fetch Grafana's types: {done.stderr.decode()[-500:]}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: another process may do the same.
        partial = kept.with_name(f"{kept.name}.{os.getpid()}")
        shutil.copytree(tmp_path / "node_modules", partial, symlinks=True)
        if not kept.exists():
            partial.rename(kept)
    else:
        (tmp_path / "node_modules").symlink_to(kept)
    return tmp_path


def literals() -> Iterator[str]:
    """Yield each board and each panel as a typed constant: only literals are checked closely."""
    yield 'import type { Board, Row, StatPanel, TimeSeriesPanel } from "./shapes";'
    for number, text in enumerate(generate_dashboards.texts().values()):
        board: dict[str, Any] = json.loads(text)
        for panel in board.pop("panels"):
            name = f"panel{number}_{panel['id']}"
            yield f"export const {name}: {KINDS[panel['type']]} = {json.dumps(panel)};"
        yield f"export const board{number}: Board = {json.dumps(board)};"


def test_dashboards_are_what_grafana_says_they_are(project: Path) -> None:
    (project / "dashboards.ts").write_text("\n".join(literals()), encoding="utf-8")
    compiler = project / "node_modules" / "typescript" / "bin" / "tsc"
    checked = subprocess.run(
        ["node", str(compiler), "--pretty", "false"],
        cwd=project,
        capture_output=True,
        check=False,
        timeout=SECONDS,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout
