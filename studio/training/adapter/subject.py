"""What is trained: an adapter on a frozen model, or the model itself.

Why: data, loop, checkpoints and measurements are the same for both; only loading, marking what is
trained, writing and checking differ. Those four are here, so that ``train`` reads the same for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.graph.context import StepContext
from studio.training.adapter.build import build_adapter, write_adapter
from studio.training.adapter.tuning import Tuning
from studio.training.adapter.verify import Expected, verify_adapter
from studio.training.adapter.whole import build_whole, load_for_training, verify_whole, write_whole
from studio.training.model.load import load_base
from studio.values import FULL_FINE_TUNING, AdaptedModelValue, ModelValue
from studio.variants.lora_method import TrainingFacts

Build = Callable[[StepContext, Any, AdaptedModelValue, TrainingFacts | None, Path | None], Tuning]


@dataclass(frozen=True)
class Subject:
    """``folder`` is the name of the result's folder, ``kind`` the kind of its artifact, ``title`` what
    is said while it is written. ``write`` may change the model: it is not trained any more."""

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


ADAPTER = Subject(
    "adapter",
    "adapter",
    "Writing the adapter",
    load_base,
    build_adapter,
    _write_adapter,
    verify_adapter,
)
MODEL = Subject(
    "model",
    "tuned_model",
    "Writing the model",
    load_for_training,
    build_whole,
    write_whole,
    verify_whole,
)


def subject_of(adapted: AdaptedModelValue) -> Subject:
    """What a training of this description trains."""
    return MODEL if adapted.method == FULL_FINE_TUNING else ADAPTER
