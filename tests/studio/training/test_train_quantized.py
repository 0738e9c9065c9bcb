"""A base in 4 or 8 bits trains, reloads and is the same after an evaluation; on the CPU too."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from studio.errors import StudioError
from studio.events import Event
from studio.training.loop.train import train_adapter
from studio.training.model.load import load_base
from studio.values import ModelValue
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


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="maps of a process: Linux only")
def test_a_quantized_base_leaves_its_file(tmp_path: Path) -> None:
    """What was read for the quantized layers is not resident any more, and nothing else changed."""
    model = ModelValue.model_validate(make_inputs(tmp_path)["model"]["model"])
    plain = load_base(make_context(tmp_path, Recorder()), model)
    four = load_base(
        make_context(tmp_path, Recorder()), model.model_copy(update={"quantization": "nf4"})
    )
    left, before = dict(four.named_parameters()), dict(plain.named_parameters())
    assert torch.equal(left["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    del plain, before
    gc.collect()
    assert model.path not in Path("/proc/self/maps").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="maps of a process: Linux only")
@pytest.mark.parametrize(
    ("changed", "mapped"),
    [({}, True), ({"dtype": "bfloat16"}, False), ({"quantization": "nf4"}, False)],
)
def test_the_file_is_not_in_memory_beside_converted_weights(
    tmp_path: Path, changed: dict[str, str], mapped: bool
) -> None:
    """Weights in the precision of the file are its pages; others are read one by one."""
    stored = ModelValue.model_validate(make_inputs(tmp_path)["model"]["model"])
    seen: list[bool] = []

    def look(event: Event) -> None:
        if event.name == "Progress":
            maps = Path("/proc/self/maps").read_text(encoding="utf-8")
            seen.append(stored.path in maps)

    load_base(make_context(tmp_path, look), stored.model_copy(update=changed))
    assert seen
    assert set(seen) == {mapped}


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
