#!/usr/bin/env python3
"""The formula of ``studio.estimate`` against dry runs: a grid of shapes and modes, as a table.

    python benchmarks/estimate_grid.py [--full] [--labels N] [--only NAME]

Shapes have four layers unless ``--full`` is given: both sides are linear in their number. Prints one
line of Markdown for each shape: the formula's peak minus the dry run's, in percent.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from studio.estimate.activations import Mode
from studio.estimate.memory import Batch, memory
from studio.estimate.shapes import shape_of_config
from studio.estimate.trainable import Counted, count, matched, rank_for
from studio.layers import resolve_targets
from tests.studio.estimate.architectures import ARCHITECTURES, shortened

SHAPES = (
    "SmolLM2-135M", "Qwen3-0.6B", "Gemma-3-1B", "TinyLlama-1.1B", "Llama-3.2-1B", "OPT-1.3B",
    "StarCoder2-3B", "Phi-3-mini", "Mistral-7B", "Qwen2.5-7B", "Llama-3-8B", "Qwen3-8B",
)  # fmt: skip
MODES = {
    "bf16": Mode(),
    "bf16, padded": Mode(masked=True),
    "bf16, checkpointing": Mode(checkpointing=True),
    "float32": Mode(weights=4, autocast=False),
    "bf16, no autocast": Mode(autocast=False),
    "whole model": Mode(weights=4, full=True),
}


def both(name: str, mode: Mode, layers: int | None, batch: Batch) -> tuple[int, int, float]:
    """Peak by formula and by dry run, and the dry run's seconds."""
    from peft import LoraConfig, get_peft_model

    from studio.training.dry_run import dry_run

    config = ARCHITECTURES[name][0]
    if layers:
        config = shortened(config, layers)
    if config["model_type"] == "opt":
        config = {**config, "dropout": 0.0}
    shape = shape_of_config(config)
    names, _ = resolve_targets(shape.modules(), "all-linear")
    targets = matched(shape, names, rank_for(16, None))
    counted = Counted((), 0, shape.parameters) if mode.full else count(shape, "lora", targets)
    lora = LoraConfig(r=16, target_modules=names, task_type="CAUSAL_LM")
    began = time.perf_counter()
    run = dry_run(config, mode, batch, None if mode.full else lambda m: get_peft_model(m, lora))
    return memory(shape, counted, mode, batch).peak, run.peak, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="all layers")
    parser.add_argument("--labels", type=int, default=256, help="of 1,024 tokens")
    parser.add_argument("--only", action="append", help="one shape")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    print("| shape | " + " | ".join(MODES) + " |\n| --- |" + " ---: |" * len(MODES))
    for name in options.only or SHAPES:
        cells = []
        for mode in MODES.values():
            batch = Batch(2, 512, options.labels)
            formula, dry, _ = both(name, mode, None if options.full else 4, batch)
            cells.append(f"{100 * (formula / dry - 1):+.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
