"""Norms and directions of ΔW against the plain matrix, without ever building it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from studio.training.adapter.insight import InsightMeter, directions_used, singular_values
from studio.training.loop.train import train_adapter
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of

pytestmark = pytest.mark.usefixtures("quiet_transformers")


@pytest.mark.parametrize(("rows", "columns", "r"), [(40, 24, 4), (6, 50, 8), (64, 64, 64)])
def test_singular_values_are_those_of_the_change(rows: int, columns: int, r: int) -> None:
    """Also where r is larger than one side of the layer."""
    torch.manual_seed(0)
    a, b = torch.randn(r, columns), torch.randn(rows, r)
    wanted = torch.linalg.svdvals(2.5 * b @ a)
    found = singular_values(a, b, 2.5)
    count = min(len(wanted), len(found))
    assert torch.allclose(found[:count], wanted[:count], rtol=1e-4, atol=1e-3)
    assert float(found[count:].abs().sum()) < 1e-3


def test_directions_are_counted_by_energy() -> None:
    """95 % of the squared sum, not of the sum."""
    assert directions_used(torch.tensor([10.0, 1.0, 1.0, 1.0])) == 1
    assert directions_used(torch.tensor([3.0, 3.0, 3.0, 0.1])) == 3
    assert directions_used(torch.tensor([1.0, 1.0, 1.0, 1.0])) == 4
    assert directions_used(torch.zeros(4)) == 0


def test_a_known_change_is_measured() -> None:
    """One layer moved in one direction by a known amount, the other not at all."""
    from peft import LoraConfig, get_peft_model

    model: Any = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    adapted: Any = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["0", "1"]))
    layer = adapted.base_model.model[0]
    with torch.no_grad():
        layer.lora_B["default"].weight[:, 0] = 1.0
    one, other = InsightMeter(adapted).measure(3).modules
    change = 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    assert one.norm == pytest.approx(float(change.norm()), rel=1e-5)
    assert one.relative == pytest.approx(float(change.norm() / model[0].weight.norm()), rel=1e-5)
    assert (one.used, one.r) == (1, 4)
    assert (other.norm, other.used) == (0.0, 0)


def test_the_change_is_measured_from_a_start_out_of_the_base() -> None:
    """Nothing has changed before the first step; after it, only what was trained counts."""
    from peft import LoraConfig, get_peft_model

    model: Any = torch.nn.Sequential(torch.nn.Linear(8, 8))
    adapted: Any = get_peft_model(model, LoraConfig(r=2, lora_alpha=2, target_modules=["0"]))
    layer = adapted.base_model.model[0]
    b = layer.lora_B["default"].weight
    with torch.no_grad():
        b.fill_(1.0)
    start = {n: p.detach().clone() for n, p in adapted.named_parameters() if "lora_" in n}
    meter = InsightMeter(adapted, start)
    assert meter.measure(0).modules[0].norm == pytest.approx(0.0, abs=1e-4)
    with torch.no_grad():
        b[:, 0] += 1.0
    change = (b - 1.0) @ layer.lora_A["default"].weight
    assert meter.measure(1).modules[0].norm == pytest.approx(float(change.norm()), rel=1e-3)


def test_a_training_tells_its_insight(tmp_path: Path) -> None:
    """At each evaluation and at the end; the losses are those of a run without it."""
    recorder = Recorder()
    inputs = make_inputs(tmp_path, 20, 4)
    settings = settings_of(max_steps=4, eval_steps=2)
    train_adapter(make_context(tmp_path, recorder), inputs, settings)
    frames = recorder.named("Insight")
    assert [f.get("step") for f in frames] == [2, 4]
    assert len(frames[-1].get("modules")) == 14
    assert all(row[1] > 0 for row in frames[-1].get("modules"))
    (tmp_path / "bare").mkdir()
    bare = Recorder()
    inputs = make_inputs(tmp_path / "bare", 20, 0)
    train_adapter(make_context(tmp_path / "bare", bare), inputs, settings)
    assert [f.get("step") for f in bare.named("Insight")][-1] == 4
    assert bare.losses() == recorder.losses()
