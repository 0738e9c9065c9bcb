"""What the computer has, and the report about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.cli import doctor
from studio.system import hardware, torch_report
from studio.system.settings import AppSettings, save_settings
from studio.system.torch_report import Build, TorchReport
from tests.gpus import ADA, computer_with

__all__ = ["computer_with"]


def test_processor_and_memory() -> None:
    assert hardware.cpu_count() >= 1
    assert hardware.cpu_model()
    assert 0 < hardware.ram_free_gib() <= hardware.ram_total_gib()


@pytest.mark.parametrize(("cores", "left"), [(1, 1), (2, 2), (4, 4), (5, 4), (16, 15)])
def test_a_core_is_left_free_only_where_there_are_many(
    monkeypatch: pytest.MonkeyPatch, cores: int, left: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(hardware, "cpu_count", lambda: cores)
    assert hardware.planned_threads(leave_core=True) == left
    assert hardware.planned_threads(leave_core=False) == cores
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert hardware.planned_threads(leave_core=True) == 3


def test_doctor_report() -> None:
    facts = doctor.gather()
    text = doctor.as_text(facts)
    assert facts["packages"]["pydantic"]
    assert "train on the CPU" in text
    assert facts["torch"]["version"] in text


def test_doctor_says_why_torch_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = TorchReport(error="libfoo is missing")
    monkeypatch.setattr(torch_report, "_run", lambda: broken)
    monkeypatch.setattr(torch_report, "_keep", lambda *_, **__: None)
    facts = doctor.gather()
    assert "libfoo is missing" in facts["torch"]["error"]
    assert "torch cannot be used" in doctor.as_text(facts)


def test_doctor_says_why_a_gpu_is_not_used(computer_with: Any, tmp_path: Path) -> None:
    computer_with(ADA, build=Build("2.13.0+cpu", None, None))
    save_settings(AppSettings(runs_folder=str(tmp_path / "mine")))
    facts = doctor.gather()
    assert facts["folders"]["runs"]["path"] == str(tmp_path / "mine")
    assert "the installed torch 2.13.0+cpu is a build for CPUs" in doctor.as_text(facts)
    computer_with(ADA, supports=(12, 2))
    assert "supports CUDA 12.2" in doctor.as_text(doctor.gather())
