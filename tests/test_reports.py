"""Reports of tests that run in several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import logging, pytest

def test_passes():
    logging.getLogger("x").error("caf\\udce9")
    print("caf\\udce9".encode("utf-8", "surrogateescape"))

def test_fails():
    assert "caf\\udce9" == "cafe"

def test_is_skipped():
    pytest.skip("caf\\udce9")

@pytest.mark.xfail(reason="caf\\udce9")
def test_is_expected_to_fail():
    assert False

@pytest.fixture
def broken():
    raise OSError("caf\\udce9")

def test_cannot_begin(broken):
    pass

@pytest.mark.parametrize("name", [pytest.param(1, id="caf\\xe9")])
def test_has_a_name(name):
    pass
"""


def test_a_lone_surrogate_does_not_end_a_test_process(tmp_path: Path) -> None:
    """Of a name that is not valid UTF-8: in a log, and in the reason of a failure, a skip, an expected failure and a
    fixture that fails."""
    (tmp_path / "test_names.py").write_text(TESTS, encoding="utf-8")
    conftest = "from tests.conftest import pytest_report_to_serializable\n"
    (tmp_path / "conftest.py").write_text(conftest, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    root = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-n",
            "1",
            "-ra",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:pytest-qt",
            ".",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    assert "1 failed, 2 passed, 1 skipped, 1 xfailed, 1 error" in done.stdout, (
        done.stdout + done.stderr
    )
    assert "INTERNALERROR" not in done.stdout
    assert "Traceback" not in done.stderr
