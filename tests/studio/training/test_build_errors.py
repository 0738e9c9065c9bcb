"""What goes wrong while an adapter is built: settings that PEFT refuses, and faults of the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest

from studio.errors import StudioError
from studio.training.adapter import build
from studio.training.loop.train import train_adapter
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of


def test_settings_that_peft_refuses_are_to_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT's own words, in one sentence that names the node whose settings are to be checked."""
    real = peft.LoraConfig

    def config(**named: Any) -> Any:
        return real(**{**named, "init_lora_weights": "no such initialization"})

    monkeypatch.setattr(peft, "LoraConfig", config)
    with pytest.raises(StudioError, match="the adapter cannot be added to this model") as caught:
        train_adapter(make_context(tmp_path, Recorder()), make_inputs(tmp_path), settings_of())
    assert caught.value.code == "adapter_build"
    assert "LoRA node" in caught.value.hint


def test_a_fault_of_the_program_keeps_its_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not called a matter of settings."""

    def faulty(*_: Any, **__: Any) -> Any:
        raise TypeError("an argument is missing")

    monkeypatch.setattr(build, "_built", faulty)
    with pytest.raises(TypeError, match="an argument is missing") as caught:
        train_adapter(make_context(tmp_path, Recorder()), make_inputs(tmp_path), settings_of())
    assert caught.traceback[-1].name == "faulty"
