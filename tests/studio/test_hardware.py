"""What the computer has, and the report about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.cli import doctor
from studio.system import hardware
from studio.system.settings import AppSettings, save_settings, settings_path


def test_processor_and_memory() -> None:
    assert hardware.cpu_count() >= 1
    assert hardware.cpu_model()
    assert 0 < hardware.ram_free_gib() <= hardware.ram_total_gib()


def test_the_device_line(monkeypatch: pytest.MonkeyPatch) -> None:
    card = hardware.Gpu(0, "NVIDIA GeForce RTX 4090", 24.0, 1.0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "gpus", lambda: [card, card])
    assert hardware.describe_device() == "NVIDIA GeForce RTX 4090, 24 GiB and 1 more"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert hardware.describe_device().startswith(hardware.cpu_model())
    other = hardware.Gpu(1, "NVIDIA L4", 24.0, 0.0)
    monkeypatch.setattr(hardware, "gpus", lambda: [card, other])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert hardware.describe_device() == "NVIDIA L4, 24 GiB"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-0123")
    assert hardware.describe_device() == "NVIDIA GeForce RTX 4090, 24 GiB and 1 more"


def test_doctor_report() -> None:
    facts = doctor.gather()
    text = doctor.as_text(facts)
    assert facts["packages"]["pydantic"]
    assert "train on the CPU" in text
    assert facts["torch"]["version"] in text


def test_doctor_says_why_torch_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_TORCH_FACTS", "raise ImportError('libfoo is missing')")
    facts = doctor.gather()
    assert "libfoo is missing" in facts["torch"]["error"]
    assert "torch cannot be used" in doctor.as_text(facts)


def test_doctor_says_why_a_gpu_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save_settings(AppSettings(runs_folder=str(tmp_path / "mine")))
    try:
        facts = doctor.gather()
    finally:
        settings_path().unlink()
    assert facts["folders"]["runs"]["path"] == str(tmp_path / "mine")
    facts["gpus"] = [{"index": 0, "name": "NVIDIA L4", "total_gib": 24.0, "used_gib": 0.0}]
    facts["torch"] = {
        "version": "2",
        "cuda": False,
        "cuda_build": None,
        "devices": [],
        "bf16": False,
        "mps": False,
    }
    assert "a CPU-only build of torch" in doctor.as_text(facts)
    facts["torch"]["cuda_build"] = "13.0"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "the driver may be too old for CUDA 13.0" in doctor.as_text(facts)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES is “”" in doctor.as_text(facts)
