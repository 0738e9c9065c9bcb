"""A base in 4 or 8 bits trains, reloads and is the same after an evaluation; on the CPU too."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import StudioError
from studio.training.loop.train import train_adapter
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of

pytestmark = pytest.mark.filterwarnings("ignore:MatMul8bitLt")


@pytest.mark.parametrize(("quantization", "limit"), [("nf4", 0.2), ("int8", 0.2)])
def test_a_quantized_base_trains(tmp_path: Path, quantization: str, limit: float) -> None:
    """The loss falls though evaluations lie between the steps, and the adapter reloads."""
    inputs = make_inputs(tmp_path, 20, 4)
    inputs["model"]["model"].update(quantization=quantization, dtype="bfloat16")
    recorder = Recorder()
    value = train_adapter(
        make_context(tmp_path, recorder), inputs, settings_of(max_steps=20, eval_steps=2)
    )
    losses = recorder.losses()
    assert sum(losses[-5:]) / 5 < losses[0] - 0.1
    assert value.reload_difference <= limit


def test_8_bits_do_not_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """bitsandbytes would warn at each layer of each pass: hundreds of thousands of lines."""
    inputs = make_inputs(tmp_path)
    inputs["model"]["model"].update(quantization="int8")
    with caplog.at_level("WARNING"):
        train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of(max_steps=2))
    assert [r.getMessage() for r in caplog.records if "MatMul8bitLt" in r.getMessage()] == []


def test_dora_on_8_bit_is_refused(tmp_path: Path) -> None:
    """peft crashes on it while training; the run says so before."""
    inputs = make_inputs(tmp_path, method="dora")
    inputs["model"]["model"].update(quantization="int8", dtype="bfloat16")
    with pytest.raises(StudioError, match="does not train on a base that is quantized to 8 bits"):
        train_adapter(make_context(tmp_path, Recorder()), inputs, settings_of())
