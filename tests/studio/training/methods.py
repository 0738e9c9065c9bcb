"""What tests of the LoRA methods share: settings that suit the tiny model, and a training seen inside.

It must not know what a test expects of a method.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from studio.graph.registry import load_registry
from studio.training.adapter import trainable
from studio.training.adapter.build import build_adapter
from studio.training.adapter.tuning import Tuning
from studio.training.loop.train import train_adapter
from studio.values import AdapterValue
from studio.variants.lora_method import TrainingFacts
from tests.studio.training.adapters import plain_model
from tests.studio.training.steps import (
    Recorder,
    adapted_value,
    make_context,
    make_inputs,
    model_value,
    settings_of,
)
from tests.tiny import make_tiny_model

METHODS = {v.id: v for v in load_registry().choices("adapter")}
OWN: dict[str, dict[str, Any]] = {
    "adalora": {"target_r": 2},
    "adamss": {"directions": 12, "parts": 3},
    "c3a": {"block_size": 8},
    "fourierft": {"frequencies": 200},
    "oft": {"block_size": 8},
    "osf": {"kept": 0.75},
    "randlora": {"rank": 4, "strength": 80},
    "road": {"group_size": 8},
    "supertuning": {"percent": 5.0},
    "tinylora": {"numbers": 16},
    "unilora": {"length": 512},
    "vblora": {"length": 16, "vectors": 32},
    "velora": {"groups": 8},
    "vera": {"width": 32},
    "waveft": {"frequencies": 200},
}
RATES = {
    "adalora": 3e-2,
    "adamss": 3e-2,
    "beft": 3e-2,
    "boft": 3e-2,
    "c3a": 3e-2,
    "fourierft": 5e-2,
    "hira": 0.5,
    "hra": 5e-2,
    "ia3": 5e-2,
    "ln_tuning": 5e-2,
    "loha": 2e-2,
    "lora_plus": 1e-3,
    "oft": 2e-2,
    "psoft": 5e-2,
    "road": 3e-2,
    "tinylora": 5e-2,
    "unilora": 5e-2,
    "vblora": 5e-2,
    "vera": 3e-2,
}


def each(methods: Iterable[Any]) -> list[Any]:
    """Parameters of a test over methods, or over (method, ...): research methods run in the slow pass."""
    found = []
    for row in methods:
        values = row if isinstance(row, tuple) else (row,)
        marks = (pytest.mark.slow(seconds=2),) if METHODS[values[0]].payload.research else ()
        found.append(pytest.param(*values, marks=marks))
    return found


BASES = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "float16": {"dtype": "float16"},
    "nf4": {"dtype": "bfloat16", "quantization": "nf4"},
    "int8": {"dtype": "bfloat16", "quantization": "int8"},
}


@dataclass
class Trained:
    """A training of one method: what came out, its losses, and the model's weights at its end."""

    value: AdapterValue
    losses: list[float]
    weights: dict[str, Any]
    trainable: set[str]


def inputs_for(root: Path, method: str, base: str = "float32", **adapter: Any) -> dict[str, Any]:
    """Inputs of a Train step with this method on the tiny model in this precision."""
    adapter = {"method_settings": OWN.get(method, {}), **adapter}
    inputs = make_inputs(root, 4, 0, method=method, **adapter)
    inputs["model"]["model"].update(BASES[base])
    return inputs


def train_settings(method: str, **changes: Any) -> Any:
    """Train settings at a learning rate that suits the method."""
    values = {"learning_rate": RATES.get(method, 5e-3), "batch_size": 4, **changes}
    return settings_of(**values)


def trained(
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    method: str,
    base: str = "float32",
    steps: int = 6,
    **adapter: Any,
) -> Trained:
    """Train, save and verify; the model is looked at just before it is written."""
    seen: dict[str, Any] = {}
    real = trainable.write_adapter

    def looking(tuning: Any, tokenizer: Any, folder: Path) -> None:
        named = dict(tuning.model.named_parameters())
        seen["weights"] = {n: p.detach().clone() for n, p in named.items()}
        seen["trainable"] = {n for n, p in named.items() if p.requires_grad}
        real(tuning, tokenizer, folder)

    monkeypatch.setattr(trainable, "write_adapter", looking)
    recorder = Recorder()
    value = train_adapter(
        make_context(root, recorder),
        inputs_for(root, method, base, **adapter),
        train_settings(method, max_steps=steps),
    )
    assert isinstance(value, AdapterValue)
    return Trained(value, recorder.losses(), seen["weights"], seen["trainable"])


WIDTHS = {  # (in, out) of the tiny model's layers; it has two blocks
    "q_proj": (32, 32),
    "k_proj": (32, 16),
    "v_proj": (32, 16),
    "o_proj": (32, 32),
    "gate_proj": (32, 64),
    "up_proj": (32, 64),
    "down_proj": (64, 32),
}


def built(root: Path, method: str, facts: TrainingFacts | None = None, **adapter: Any) -> Tuning:
    """The tiny model with a fresh adapter of this method."""
    folder = root / "model"
    if not folder.exists():
        make_tiny_model(folder)
    own = {"method_settings": OWN.get(method, {}), **adapter}
    value = adapted_value(model_value(folder), method=method, **own)
    return build_adapter(
        make_context(root, Recorder()), plain_model(folder), value, facts or facts_of(root)
    )


def facts_of(root: Path) -> TrainingFacts:
    """A training of ten steps without rows."""
    del root
    return TrainingFacts(10, [], lambda model, batch: None)


def layer_of(tuning: Tuning) -> Any:
    """The first adapted query projection."""
    return tuning.model.base_model.model.model.layers[0].self_attn.q_proj


def sums(count: Any) -> int:
    """A count by layer, summed over both blocks."""
    return 2 * sum(count(width_in, width_out) for width_in, width_out in WIDTHS.values())
