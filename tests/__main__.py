"""`python3 -m tests [pytest arguments]`: sets everything up, then runs linters and tests.

Why: one command proves a clean clone, on a bare machine and in CI. It imports only the standard
library; the tools run as child processes. With arguments, only pytest runs. The last line is
always pytest's summary; the exit code is not 0 when a linter or a test failed.

``python3 -m tests quick`` runs the linters and the tests that need no torch, no Qt and no child process: see
``tests/quick.py``.

The whole suite runs in three parts, each on two cores at once where there are two: what only computes, the runs
from end to end, and windows with all others. LORA_STUDIO_TEST_WORKERS sets another number of cores, also for a
choice of tests.

`--yes` installs missing system packages without a question: see bootstrap/system.py.

`--budget SECONDS` leaves out what would not be through in that time: see tests/slow_budget.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import bootstrap
from bootstrap import qt, system

ROOT = Path(__file__).resolve().parent.parent
_IMPORT_LINTER = "from importlinter.cli import lint_imports_command as lint; lint()"
COMPUTING = ["tests/contracts", "tests/docs", "tests/studio"]
RUNS = ["tests/e2e"]
QUICK_TOO = ["tests/test_bootstrap.py", "tests/test_qt_loads.py"]
LINTERS = {
    "ruff check": ["-m", "ruff", "check", "--output-format", "concise", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy"],
    "mypy, calls in tests": ["-m", "mypy", "--config-file", "tests/mypy.ini"],
    "import contracts": ["-c", _IMPORT_LINTER],
}


def main(arguments: list[str]) -> int:
    """Prepare, check, test; returns the exit code."""
    os.chdir(ROOT)
    arguments = bootstrap.without_yes(arguments)
    bootstrap.ensure(["-m", "tests", *arguments], extras=["test"])
    problem = system.libraries_problem(window=False) or qt.import_problem()
    if problem:
        bootstrap.say(f"The tests need Qt: {problem}")
        return 1
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    failed = [] if arguments and arguments[0] != "quick" else lint()
    status = run_pytest(arguments, failed)
    return status or (1 if failed else 0)


def lint() -> list[str]:
    """Run every linter, print how each went, and return the names of those that failed."""
    failed = []
    for name, arguments in LINTERS.items():
        started_at = time.monotonic()
        result = subprocess.run(
            [sys.executable, *arguments], capture_output=True, encoding="utf-8", check=False
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
    environment = {**os.environ, "LORA_STUDIO_FAILED_LINTERS": ", ".join(failed)}
    workers = os.environ.get("LORA_STUDIO_TEST_WORKERS", "")
    if arguments[:1] == ["quick"]:
        plain = ["-p", "tests.quick", "--no-header", "-q", "-r", "fE", *arguments[1:]]
        return _pytest([*plain, *COMPUTING, *QUICK_TOO], environment)
    if any(a.startswith("--budget") for a in arguments):
        return _pytest(["-p", "tests.slow_budget", *arguments], environment)
    if arguments or workers == "1" or not _has_cores():
        parallel = ["-n", workers] if workers else []
        return _pytest([*parallel, *arguments], environment)
    # A process of torch each takes all cores; two of them would get in each other's way.
    alone = {**environment, "OMP_NUM_THREADS": "1"}
    together = ["-n", workers or "2", "--dist", "loadscope"]
    computing = _pytest([*together, *COMPUTING], alone)
    runs = _pytest([*together, "--no-loadscope-reorder", *RUNS], alone)
    rest = [
        p.relative_to(ROOT).as_posix()
        for p in sorted(Path("tests").resolve().iterdir())
        if _holds_tests(p) and p.relative_to(ROOT).as_posix() not in (*COMPUTING, *RUNS)
    ]
    return _pytest([*together, *rest], alone) or runs or computing


def _has_cores() -> bool:
    return (os.cpu_count() or 1) > 1


def _holds_tests(path: Path) -> bool:
    return path.name.startswith("test_") or (path.is_dir() and any(path.rglob("test_*.py")))


def _pytest(arguments: list[str], environment: dict[str, str]) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
