"""Verifies that the combined adapter on disk computes what the combination says.

The logits of the base model to whose layers the changes are added one by one are compared with those of the saved
adapter, loaded by plain PEFT. What is added are the weighted changes of the sources themselves where their sum is
exact, and the combined changes in memory for the methods that prune or truncate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.training.adapter.verify import tolerance
from studio.training.export.portable import Pair, Plain
from studio.training.merge.check import changed_difference
from studio.values import AdapterValue

EXACT = ("linear", "cat")

Terms = Mapping[str, Sequence[tuple[Pair, float]]]
"""The path of a layer -> the changes that are added to it, each with its weight."""


def reload_difference(
    context: StepContext,
    value: AdapterValue,
    folder: Path,
    sources: Sequence[tuple[Plain, float]],
    result: Plain,
    method: str,
) -> float:
    """The largest difference between the logits of the adapter in ``folder`` and those of the changes it was made of.
    ``value`` gives base and tokenizer. Raises ``StudioError`` when rounding does not explain it."""
    terms = _terms(sources if method in EXACT else [(result, 1.0)])
    found = changed_difference(context, value, folder, _adding(terms))
    base = value.model.model
    # The sum is rounded in another order, as in an adapter that was rewritten.
    dtype = base.dtype if base.quantization == "none" or base.dtype != "float32" else "bfloat16"
    allowed = tolerance(dtype, found.logit, rewritten=True)
    if not found.largest <= allowed:  # also refuses NaN
        raise StudioError(
            f"the saved adapter differs from the combination: their logits differ by {found.largest:.3g}, and "
            f"rounding explains at most {allowed:.3g}.",
            title="The saved adapter differs from the combination",
            hint="Use another method, or merge the adapters one after the other.",
            code="reload_mismatch",
            file=str(folder),
        )
    return found.largest


def _terms(sources: Sequence[tuple[Plain, float]]) -> Terms:
    found: dict[str, list[tuple[Pair, float]]] = {}
    for plain, weight in sources:
        for path, pair in plain.pairs.items():
            if weight:
                found.setdefault(path, []).append((pair, weight))
    return found


def _adding(terms: Terms) -> Callable[[Any], None]:
    """A function that makes each layer of a model add its changes to its output."""

    def change(model: Any) -> None:
        for path, pairs in terms.items():
            model.get_submodule(path).register_forward_hook(_hook(pairs))

    return change


def _hook(pairs: Sequence[tuple[Pair, float]]) -> Callable[..., torch.Tensor]:
    def add(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        del module
        total = output.float()
        for pair, weight in pairs:
            a, b = pair.a.to(output.device), pair.b.to(output.device)
            inner = a.T[inputs[0]] if pair.embedding else inputs[0].float() @ a.T
            total = total + weight * inner @ b.T
        return total.to(output.dtype)

    return add
