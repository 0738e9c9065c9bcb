"""`python3 -m tests [pytest arguments]`: sets everything up, then runs linters and tests.

Why: one command proves a clean clone, on a bare machine and in CI. It imports only the standard
library; the tools run as child processes. With arguments, only pytest runs. The last line is
always pytest's summary; the exit code is not 0 when a linter or a test failed.

To run the tests on several cores, set LORA_STUDIO_TEST_WORKERS to their number.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import bootstrap
from bootstrap import system

ROOT = Path(__file__).resolve().parent.parent
_IMPORT_LINTER = "from importlinter.cli import lint_imports_command as lint; lint()"
LINTERS = {
    "ruff check": ["-m", "ruff", "check", "--output-format", "concise", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy"],
    "import contracts": ["-c", _IMPORT_LINTER],
}


def main(arguments: list[str]) -> int:
    """Prepare, check, test; returns the exit code."""
    os.chdir(ROOT)
    bootstrap.ensure(["-m", "tests", *arguments], extras=["test"])
    problem = system.libraries_problem(window=False)
    if problem:
        bootstrap.say(f"The tests need Qt: {problem}")
        return 1
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    failed = [] if arguments else lint()
    status = run_pytest(arguments, failed)
    return status or (1 if failed else 0)


def lint() -> list[str]:
    """Run every linter, print how each went, and return the names of those that failed."""
    failed = []
    for name, arguments in LINTERS.items():
        started_at = time.monotonic()
        result = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, check=False
        )
        passed = result.returncode == 0
        outcome = "passed" if passed else "FAILED"
        print(f"{name}: {outcome} ({time.monotonic() - started_at:.1f} s)", flush=True)
        if not passed:
            failed.append(name)
            print(result.stdout + result.stderr, flush=True)
    return failed


def run_pytest(arguments: list[str], failed: list[str]) -> int:
    """Run pytest; `failed` linters are named again above its summary."""
    workers = os.environ.get("LORA_STUDIO_TEST_WORKERS", "")
    parallel = ["-n", workers] if workers else []
    environment = {**os.environ, "LORA_STUDIO_FAILED_LINTERS": ", ".join(failed)}
    command = [sys.executable, "-m", "pytest", *parallel, *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
