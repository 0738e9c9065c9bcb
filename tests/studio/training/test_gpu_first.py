"""The checks of ``benchmarks/gpu_first.py`` that need no GPU, and how it reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_first

ROOT = Path(__file__).resolve().parents[3]
SLOW = {"optimizers": 60, "methods": 120}
ON_CPU = [
    pytest.param(name, marks=[pytest.mark.slow(seconds=SLOW[name])] if name in SLOW else [])
    for name, (_, _, on_cpu) in gpu_first.CHECKS.items()
    if on_cpu
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of BOFT, in PEFT
@pytest.mark.parametrize("name", ON_CPU)
def test_on_a_cpu(tmp_path: Path, name: str) -> None:
    found = gpu_first.CHECKS[name][0](gpu_first.Bench("cpu", tmp_path))
    assert found.get("ok", True), found
    assert json.dumps(found, default=str)


def report(capsys: pytest.CaptureFixture[str], names: list[str], budget_s: float) -> Any:
    failed = gpu_first.run_all(names, "cpu", budget_s)
    return failed, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_check_that_fails_or_hangs_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each runs in a process of its own, with a limit."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, time\n"
        "name = sys.argv[2]\n"
        "if name == 'context': raise MemoryError('too much')\n"
        "if name == 'probe': time.sleep(60)\n"
        'print(\'{"ok": true, "calls": 3}\')\n',
        encoding="utf-8",
    )
    monkeypatch.setattr(gpu_first, "__file__", str(script))
    checks = {**gpu_first.CHECKS, "probe": (gpu_first.probe, 1.0, True)}
    monkeypatch.setattr(gpu_first, "CHECKS", checks)
    names = ["context", "probe", "varlen", "estimate"]
    failed, lines = report(capsys, names, 100)
    assert failed == 2
    assert [line["ok"] for line in lines] == [False, False, True, None]
    assert "too much" in lines[0]["error"][-1]
    assert lines[1]["error"] == "not done after 1 s"
    assert lines[2]["calls"] == 3
    assert lines[3]["skipped"] == "needs a GPU"


def test_without_time_left_checks_are_named_as_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    failed, lines = report(capsys, ["context", "varlen"], 0)
    assert failed == 0
    assert [line["skipped"] for line in lines] == ["no time left"] * 2


def test_the_order_and_the_time_of_all() -> None:
    """The cheap checks that decide most come first."""
    first = list(gpu_first.CHECKS)[:6]
    assert first == [
        *("context", "probe", "varlen", "attention_memory", "int8_checkpointing"),
        "memory_in_loading",
    ]
    assert gpu_first.BUDGET_S == 12 * 60


def test_without_a_gpu_it_fails_in_words() -> None:
    command = [sys.executable, "benchmarks/gpu_first.py", "--only", "context"]
    hidden = {"CUDA_VISIBLE_DEVICES": ""}

    ran = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **hidden},
        check=False,
    )
    assert ran.returncode == 1
    assert "torch finds no GPU" in ran.stdout
