"""How left-out tests are reported, seen from outside: pytest runs on small files of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[2] / "conftest.py"

SKIPPING = """
import pytest

def test_passes():
    pass

def test_skips():
    pytest.skip("no such tool")

@pytest.mark.xfail(reason="known", strict=True)
def test_fails_as_known():
    raise ValueError
"""

SKIPPING_MODULE = """
import pytest

pytest.skip("whole module", allow_module_level=True)
"""

WANTING_A_GPU = """
import pytest

@pytest.mark.gpu
def test_computes():
    raise AssertionError("must not run without a GPU")

def test_passes():
    pass
"""


def run_pytest(
    folder: Path, source: str, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "test_sample.py").write_text(source, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu: GPU\n", encoding="utf-8")
    # An empty list of visible devices hides a GPU that this machine may have.
    surroundings = {
        key: value for key, value in os.environ.items() if not key.startswith("RLHF_TEST_")
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(folder)],
        env=surroundings | {"CUDA_VISIBLE_DEVICES": ""} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("options", [(), ("--numprocesses=2",)], ids=["one", "two-processes"])
def test_conftest_skip_is_named_and_passes(tmp_path: Path, options: tuple[str, ...]) -> None:
    notes = tmp_path / "notes.txt"
    done = run_pytest(tmp_path, SKIPPING, *options, RLHF_TEST_NOTES=str(notes))
    assert done.returncode == 0, done.stdout
    assert "1 x skipped: no such tool" in done.stdout
    assert notes.read_text(encoding="utf-8") == "1 x skipped: no such tool\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param(SKIPPING, "no such tool", id="test"),
        pytest.param(SKIPPING_MODULE, "whole module", id="module"),
    ],
)
def test_conftest_skip_where_all_is_required_fails(
    tmp_path: Path, source: str, reason: str
) -> None:
    done = run_pytest(tmp_path, source, RLHF_TEST_REQUIRE="all")
    assert done.returncode != 0
    assert f"RLHF_TEST_REQUIRE=all allows none: {reason}" in done.stdout


def test_conftest_misspelt_requirement_is_refused(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, SKIPPING, RLHF_TEST_REQUIRE="al")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "RLHF_TEST_REQUIRE=al: unknown" in done.stderr


def test_conftest_gpu_tests_are_deselected_even_where_all_is_required(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, WANTING_A_GPU, RLHF_TEST_REQUIRE="all")
    assert done.returncode == 0, done.stdout
    assert "1 x deselected: no GPU answers here" in done.stdout
