"""Every optimizer learns, and goes on after a stop as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from studio.errors import Stopped
from studio.graph.schema import problems_in
from studio.node_settings.train import OptimizerName, TrainSettings
from studio.training.loop.muon import MuonAdamW
from studio.training.loop.optim import build_optimizer
from studio.training.loop.train import train_adapter
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of

NAMES = get_args(OptimizerName)
RATES = {"sgd": 1.0, "lion": 5e-3, "lion_8bit": 5e-3}
MORE: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.5},
    "ademamix": {"beta3": 0.99, "ademamix_alpha": 2.0},
    "ademamix_8bit": {"beta3": 0.99, "ademamix_alpha": 2.0},
    "muon": {"weight_decay": 0.05},
}


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_and_resumes_exactly(tmp_path: Path, name: str) -> None:
    """The loss falls; stopped and resumed, every later loss and every weight is the same."""
    rate = RATES.get(name, 2e-2)
    settings = settings_of(
        max_steps=14, optimizer=name, learning_rate=rate, lr_scheduler="wsd", **MORE.get(name, {})
    )
    inputs = make_inputs(tmp_path, 2, r=64, alpha=64, dropout=0.1)
    whole, first, second = Recorder(), Recorder(), Recorder()
    train_adapter(make_context(tmp_path / "a", whole), inputs, settings)
    losses = whole.losses()
    assert sum(losses[-4:]) / 4 < losses[0] - 0.12
    with pytest.raises(Stopped):
        train_adapter(
            make_context(tmp_path / "b", first, lambda: len(first.losses()) >= 6), inputs, settings
        )
    train_adapter(make_context(tmp_path / "b", second), inputs, settings)
    assert first.losses() + second.losses() == losses
    weights = [tmp_path / n / "step" / "adapter" / "adapter_model.safetensors" for n in "ab"]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("name", ["sgd_8bit", "lars_8bit"])
def test_what_does_not_train_is_refused(name: str) -> None:
    """With the names of those that do."""
    (problem,) = problems_in(TrainSettings, {"optimizer": name}, "train", "Train")
    assert problem.field == "optimizer"
    assert "adamw_8bit" in problem.sentence


class Small(torch.nn.Module):
    """An embedding, a matrix and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(8, 8)
        self.layer = torch.nn.Linear(8, 8)

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.table

    def get_output_embeddings(self) -> None:
        return None


def test_muon_is_for_matrices_only() -> None:
    """A matrix moves by an orthogonal step, whatever its gradient's size; a vector and the rows of an
    embedding move as in AdamW."""
    model = Small()
    settings = settings_of(optimizer="muon", learning_rate=0.1)
    optimizer = build_optimizer(model, settings)
    assert isinstance(optimizer, MuonAdamW)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.layer.weight.grad = 1e-3 * torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    model.layer.bias.grad = torch.full((8,), 3.0)
    model.table.weight.grad = torch.full((8, 8), 3.0)
    optimizer.step()
    moved = {n: p.detach() - before[n] for n, p in model.named_parameters()}
    widths = torch.linalg.svdvals(moved["layer.weight"])
    assert widths.max() < 4 * widths.min()  # the gradient's own ratio is some 20
    assert moved["layer.bias"].numpy() == pytest.approx(-0.1, abs=1e-5)
    assert moved["table.weight"].numpy() == pytest.approx(-0.1, abs=1e-5)


def test_vectors_are_not_decayed() -> None:
    """Weight decay pulls at matrices only."""
    layer = torch.nn.Linear(3, 3)
    groups = build_optimizer(layer, settings_of(weight_decay=0.1)).param_groups
    assert {g["weight_decay"]: [p.dim() for p in g["params"]] for g in groups} == {
        0.1: [2],
        0.0: [1],
    }


@pytest.mark.parametrize(("name", "betas"), [("adamw", (0.9, 0.999)), ("lion", (0.9, 0.99))])
def test_beta_2_is_the_optimizers_own_unless_set(name: str, betas: tuple[float, float]) -> None:
    layer = torch.nn.Linear(3, 3)
    own = build_optimizer(layer, settings_of(optimizer=name)).param_groups[0]["betas"]
    assert tuple(own) == betas
    chosen = build_optimizer(layer, settings_of(optimizer=name, beta2=0.95)).param_groups[0]
    assert tuple(chosen["betas"]) == (0.9, 0.95)
