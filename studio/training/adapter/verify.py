"""Verifies that the saved adapter computes what the trained model computed.

An adapter can train well and still load as something else (an initialization that changed the base,
a layer that was not saved). So the logits of the trained model are kept for a few tokens, the model
is freed, and the saved files on a newly loaded base must give the same logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors import SafetensorError, safe_open

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.training.adapter.attach import attach
from studio.training.adapter.continued import is_unchanged
from studio.training.model.load import load_base
from studio.training.saved.snapshot import ADAPTER
from studio.values import AdaptedModelValue
from studio.variants.lora_method import LoraMethod

ROWS, TOKENS = 2, 48
FLOAT32_TOLERANCE = 1e-3
_COMPARED = 16
"""Positions per row whose logits are stored: enough to detect a difference."""


@dataclass(frozen=True)
class Expected:
    """Token rows and the logits of the trained model for them, (positions, vocabulary) each."""

    rows: list[list[int]]
    logits: list[torch.Tensor]


def expect(model: Any, rows: Dataset) -> Expected:
    """The trained model's logits on the first rows of the training data."""
    picked = [rows[i]["input_ids"][:TOKENS] for i in range(min(ROWS, len(rows)))]
    return Expected(picked, [_logits(model, ids) for ids in picked])


def verify_adapter(
    context: StepContext, adapted: AdaptedModelValue, folder: Path, expected: Expected
) -> float:
    """The largest difference between the logits of the reloaded adapter and those of the trained
    model.

    Raises ``StudioError`` when it exceeds rounding, or when the adapter cannot be read.
    """
    context.phase("verify", "Loading the saved adapter on a fresh model")
    with _explain_damage(folder):
        _refuse_unmoved(adapted, folder)
    fresh = load_base(context, adapted.model, "Loading a fresh model to compare")
    context.phase("verify", "Comparing the saved adapter with the trained model")
    with _explain_damage(folder):
        model = attach(fresh, folder)
    method: LoraMethod = context.variant("adapter", adapted.method).payload
    rewritten = method.starts_from_base or method.reorders_sums
    difference, allowed = largest_difference(model, adapted.model.dtype, expected, rewritten)
    if not difference <= allowed:  # also refuses NaN
        raise StudioError(
            "the saved adapter differs from the trained one: on a freshly loaded model its "
            f"logits differ by {difference:.3g} (rounding explains at most {allowed:.3g}).",
            title="The saved adapter differs from the trained one",
            hint="Use another LoRA method, or turn off quantization. Checkpoints are kept.",
            code="reload_mismatch",
            file=str(folder),
        )
    return difference


@contextmanager
def _explain_damage(folder: Path) -> Iterator[None]:
    """Raise ``StudioError`` when the file of the adapter is damaged."""
    try:
        yield
    except SafetensorError as error:
        raise StudioError(
            f"the saved adapter cannot be read: {ADAPTER} is damaged ({error}).",
            title="The saved adapter is damaged",
            hint="Check the disk, then resume the run. Checkpoints are kept.",
            code="adapter_damaged",
            file=str(folder / ADAPTER),
        ) from error


def largest_difference(
    model: Any, dtype: str, expected: Expected, rewritten: bool = False
) -> tuple[float, float]:
    """The largest difference of ``model``'s logits from the expected ones, and the largest allowed one."""
    found = [_logits(model, ids) for ids in expected.rows]
    pairs = list(zip(found, expected.logits, strict=True))
    difference = max(float((a - b).abs().max()) for a, b in pairs)
    return difference, tolerance(dtype, max(float(b.abs().max()) for _, b in pairs), rewritten)


def tolerance(dtype: str, largest: float, rewritten: bool = False) -> float:
    """The difference that rounding can explain: half precision has 8 to 11 significant bits.

    An adapter that was ``rewritten`` as a plain LoRA (PiSSA and related methods, PSOFT, AdaLoRA) is
    summed in another order. In half precision this amounts to a few hundredths of a logit's size in
    a deep model: on 30 layers in bfloat16 0.5 to 1.5 of logits up to 45, where the same trainings
    in float32 reload within 0.001.
    """
    if dtype == "float32":
        return FLOAT32_TOLERANCE
    share = 8 if rewritten else 2
    return max(FLOAT32_TOLERANCE, share * torch.finfo(getattr(torch, dtype)).eps * largest)


@torch.no_grad()
def _logits(model: Any, ids: list[int]) -> torch.Tensor:
    model.eval()
    device = next(model.parameters()).device
    logits = model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits
    return logits[0, -_COMPARED:].float().cpu()


def _refuse_unmoved(adapted: AdaptedModelValue, folder: Path) -> None:
    """Raise ``StudioError`` if the training had no effect: all B matrices are zero, or all weights are those of the
    adapter that it started from."""
    if adapted.continues is not None:
        moved, state = not is_unchanged(adapted.continues, folder), "as before"
    else:
        with safe_open(folder / ADAPTER, framework="pt", backend="pread") as file:
            names = [n for n in file.keys() if ".lora_B." in n]  # noqa: SIM118 (not a dict)
            moved = not names or any(bool(file.get_tensor(n).any()) for n in names)
        state = "still zero"
    if not moved:
        raise StudioError(
            f"the training did not change the adapter: all trained matrices are {state}.",
            title="Nothing was learned",
            hint="Raise the learning rate or the number of steps, and check that the adapted layers "
            "are used by the model.",
            code="adapter_unmoved",
            field="learning_rate",
        )
