"""What the computer has, and the report about it."""

from __future__ import annotations

import pytest

from studio import hardware
from studio.cli import doctor


def test_processor_and_memory() -> None:
    assert hardware.cpu_count() >= 1
    assert hardware.cpu_model()
    assert 0 < hardware.ram_free_gib() <= hardware.ram_total_gib()


def test_the_device_line(monkeypatch: pytest.MonkeyPatch) -> None:
    card = hardware.Gpu(0, "NVIDIA H200", 139.8, 1.0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "gpus", lambda: [card, card])
    assert hardware.describe_device() == "NVIDIA H200, 140 GiB and 1 more"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert hardware.describe_device().startswith(hardware.cpu_model())


def test_doctor_report() -> None:
    facts = doctor.gather()
    text = doctor.as_text(facts)
    assert facts["packages"]["pydantic"]
    assert "train on the processor" in text
    assert facts["torch"]["version"] in text


def test_doctor_says_why_torch_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_TORCH_FACTS", "raise ImportError('libfoo is missing')")
    facts = doctor.gather()
    assert "libfoo is missing" in facts["torch"]["error"]
    assert "torch does not work" in doctor.as_text(facts)
