"""What a training updates: an adapter on a frozen model, or the weights of the model itself.

Data, training loop, checkpoints and evaluation are the same for both. Loading the model, selecting the
trainable parameters, writing the result and verifying it differ, and are the four functions of
``Trainable``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.graph.context import StepContext
from studio.training.adapter.build import build_adapter, write_adapter
from studio.training.adapter.full_fine_tuning import (
    build_full_fine_tuning,
    load_for_training,
    verify_model,
    write_model,
)
from studio.training.adapter.tuning import Tuning
from studio.training.adapter.verify import Expected, verify_adapter
from studio.training.model.load import load_base
from studio.values import FULL_FINE_TUNING, AdaptedModelValue, ModelValue
from studio.variants.lora_method import TrainingFacts

Build = Callable[[StepContext, Any, AdaptedModelValue, TrainingFacts | None, Path | None], Tuning]


@dataclass(frozen=True)
class Trainable:
    """The functions that differ between the two kinds of training.

    ``folder`` is the name of the result's folder, ``kind`` the kind of its artifact, and ``title`` is shown
    while it is written. ``write`` may change the model, because no training step follows it.
    """

    folder: str
    kind: str
    title: str
    load: Callable[[StepContext, ModelValue], Any]
    build: Build
    write: Callable[[StepContext, Tuning, Any, Path], None]
    verify: Callable[[StepContext, AdaptedModelValue, Path, Expected], float]


def _write_adapter(context: StepContext, tuning: Tuning, tokenizer: Any, folder: Path) -> None:
    del context
    write_adapter(tuning, tokenizer, folder)


ADAPTER = Trainable(
    "adapter",
    "adapter",
    "Writing the adapter",
    load_base,
    build_adapter,
    _write_adapter,
    verify_adapter,
)
MODEL = Trainable(
    "model",
    "tuned_model",
    "Writing the model",
    load_for_training,
    build_full_fine_tuning,
    write_model,
    verify_model,
)


def trainable_of(adapted: AdaptedModelValue) -> Trainable:
    """The functions for a training with this description."""
    return MODEL if adapted.method == FULL_FINE_TUNING else ADAPTER
