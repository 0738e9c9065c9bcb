"""The slow pass within a time: what it leaves out it names, and a failed test fails it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GOOD = """
import time, pytest

@pytest.mark.slow(seconds=0)
def test_cheap(): pass

@pytest.mark.slow(seconds=0)
def test_sleeps():
    try:
        time.sleep(1000)
    except Exception:
        pass

@pytest.mark.slow(seconds=0)
def test_behind(): pass

@pytest.mark.slow(seconds=100_000)
def test_dear(): pass
"""
BAD = "def test_bad(): assert False\n"
HANGS = (
    "import time, pytest\n@pytest.mark.timeout(0.2)\n@pytest.mark.slow(seconds=0)\n"
    "def test_hangs(): time.sleep(1000)\n"
)


def run(folder: Path, text: str, budget: float) -> tuple[int, str]:
    """Pytest on one file, with only the plugin; returns its exit code and output."""
    (folder / "test_it.py").write_text(text, encoding="utf-8")
    (folder / "conftest.py").write_text(
        "import tests.slow_budget\ntests.slow_budget.measured = lambda kind: 2.0\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.slow_budget", f"--budget={budget}"),
            *("-o", "addopts=", "-o", "filterwarnings=", str(folder / "test_it.py")),
        ],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return done.returncode, done.stdout


def test_what_does_not_fit_and_what_the_end_cuts_is_named(tmp_path: Path) -> None:
    code, out = run(tmp_path, GOOD, 20)
    assert code == 0, out
    named = out.split("Left out for want of time: ")[1]
    for name in ("sleeps", "behind", "dear"):
        assert f"test_it.py::test_{name} (" in named


@pytest.mark.parametrize(("text", "reason"), [(BAD, "assert False"), (HANGS, "Timeout")])
def test_a_failure_fails_it(tmp_path: Path, text: str, reason: str) -> None:
    code, out = run(tmp_path, text, 1000)
    assert code == 1
    assert reason in out


def test_no_time_at_all_leaves_out_everything(tmp_path: Path) -> None:
    code, out = run(tmp_path, GOOD, -5)
    assert code == 0
    assert "Left out for want of time: 4" in out
