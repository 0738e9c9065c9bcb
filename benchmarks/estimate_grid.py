#!/usr/bin/env python3
"""The formula of ``studio.estimate`` against dry runs: a grid of shapes and modes, as a table.

    python benchmarks/estimate_grid.py [--full] [--labels N] [--only NAME] [--cpu]

Shapes have four layers unless ``--full`` is given: both sides are linear in their number. Prints one
line of Markdown for each shape: the formula's peak minus the dry run's, in percent. ``--cpu`` compares
it with real steps instead (``estimate_cpu``).
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from studio.estimate.activations import Mode
from studio.estimate.memory import Batch, memory
from studio.estimate.trainable import Counted, count, matched, rank_for
from studio.model.layer_names import block_number
from studio.model.layers import resolve_targets
from studio.model.read_shape import shape_of_config
from studio.model.shapes import Shape
from tests.studio.estimate.architectures import ARCHITECTURES, shortened

SHAPES = (
    "SmolLM2-135M",
    "Qwen3-0.6B",
    "Gemma-3-1B",
    "TinyLlama-1.1B",
    "Llama-3.2-1B",
    "OPT-1.3B",
    "StarCoder2-3B",
    "Phi-3-mini",
    "Mistral-7B",
    "Qwen2.5-7B",
    "Llama-3-8B",
    "Qwen3-8B",
)
MODES = {
    "bf16": Mode(),
    "bf16, padded": Mode(masked=True),
    "bf16, padding-free": Mode(joined=True),
    "float32, padding-free": Mode(weights=4, autocast=False, joined=True),
    "bf16, checkpointing": Mode(checkpointing=True),
    "float32": Mode(weights=4, autocast=False),
    "bf16, no autocast": Mode(autocast=False),
    "full fine-tuning, bf16": Mode(weights=4, full=True),
    "full fine-tuning, float32": Mode(weights=4, full=True, autocast=False),
    "last 2 layers, bf16": Mode(weights=4, full=True),
    "bf16, products in float32": Mode(weights=4, stored=2, autocast=False, head="chunks"),
    "bf16, products in float32, checkpointing": Mode(
        weights=4, stored=2, autocast=False, head="chunks", checkpointing=True
    ),
    "bf16, fused": Mode(fused=True, joined=True),
    "bf16, fused, checkpointing": Mode(fused=True, joined=True, checkpointing=True),
    "float32, fused": Mode(weights=4, autocast=False, fused=True, joined=True),
    "bf16, dropout": Mode(dropout=0.05),
    "bf16, dropout, checkpointing": Mode(dropout=0.05, checkpointing=True),
}
LAST = "last 2 layers, bf16"


def both(
    name: str, mode: Mode, layers: int | None, batch: Batch, last: int = 0
) -> tuple[int, int, float]:
    """Peak by formula and by dry run, and the dry run's seconds. With ``last`` only so many layers are
    trained in full fine-tuning."""
    from peft import LoraConfig, get_peft_model

    from studio.training.estimate.dry_run import dry_run

    config = ARCHITECTURES[name][0]
    if layers:
        config = shortened(config, layers)
    if config["model_type"] == "opt":
        config = {**config, "dropout": 0.0}
    shape = shape_of_config(config)
    assert shape is not None
    names, _ = resolve_targets(shape.modules(), "all-linear")
    targets = matched(shape, names, rank_for(16, None))
    counted = _whole(shape, last) if mode.full else count(shape, "lora", targets)
    lora = LoraConfig(r=16, target_modules=names, task_type="CAUSAL_LM", lora_dropout=mode.dropout)
    began = time.perf_counter()

    def adapt(model: Any) -> Any:
        return _frozen(model, shape.layers - last) if last else get_peft_model(model, lora)

    run = dry_run(config, mode, batch, None if mode.full and not last else adapt, _optimizer)
    parts = memory(shape, counted, mode, batch)
    assert parts is not None
    assert run.trainable == counted.trainable
    return parts.peak, run.peak, time.perf_counter() - began


def _optimizer(model: Any) -> Any:
    """As a run builds it: matrices before vectors, which decides what lies beside what."""
    from studio.node_settings.train import TrainSettings
    from studio.training.loop.optim import build_optimizer

    return build_optimizer(model, TrainSettings())


def _whole(shape: Shape, last: int) -> Counted:
    if not last:
        return Counted((), 0, shape.parameters, head=shape.vocabulary * shape.hidden)
    inner = shape.linears[-last * len(shape.linears) // shape.layers :]
    own = sum(m.parameters for m in inner) + last * shape.vectors
    return Counted((), 0, own, first_layer=shape.layers - last)


def _frozen(model: Any, first: int) -> Any:
    """The model with only the layers from ``first`` on trained."""
    for name, parameter in model.named_parameters():
        layer = block_number(name)
        parameter.requires_grad = layer is not None and layer >= first
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="all layers")
    parser.add_argument("--labels", type=int, default=256, help="of 1,024 tokens")
    parser.add_argument("--only", action="append", help="one shape")
    parser.add_argument("--cpu", action="store_true", help="real steps on the processor")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.cpu:
        from benchmarks.estimate_cpu import rows

        for row in rows(options.only):
            print(row, flush=True)
        return
    print("| shape | " + " | ".join(MODES) + " |\n| --- |" + " ---: |" * len(MODES))
    for name in options.only or SHAPES:
        cells = []
        for title, mode in MODES.items():
            batch, last = Batch(2, 512, options.labels), 2 if title == LAST else 0
            formula, dry, _ = both(name, mode, None if options.full else 4, batch, last)
            cells.append(f"{100 * (formula / dry - 1):+.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
