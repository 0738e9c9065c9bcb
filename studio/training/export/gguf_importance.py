"""The importance matrix: how much each input of each linear layer matters on the user's rows.

It is the mean of the squared activations per column, as llama.cpp's ``llama-imatrix`` computes it, by which the error
of a quantized weight is weighted. Columns keep their order in GGUF: only rows of Q and K are permuted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studio.export_folder.gguf_mixtures import WITH_MATRIX
from studio.graph.context import StepContext
from studio.node_settings.export import GgufSettings
from studio.system import busy_files
from studio.training.batch.batches import pad_rows
from studio.training.export.gguf_weights import Names
from studio.training.loop.evaluation import evenly_spaced
from studio.training.model.load import free_memory, load_base, roomy_device
from studio.training.model.out_of_memory import explain_out_of_memory
from studio.training.tokens.as_trained import settings_as_trained, tokenized_as_trained
from studio.training.tokens.limits import pad_id_of
from studio.values import AdapterValue, ModelValue

_TOKENS = ".importance-tokens"


@dataclass(frozen=True)
class Importance:
    """The importance matrix of a model: by the name of a tensor in GGUF, the mean squared activation of each of its
    columns. ``kinds`` are the quantizations that it is used for, ``rows`` says what it was computed on."""

    columns: dict[str, np.ndarray[Any, Any]]
    kinds: frozenset[str]
    rows: str


class _Collector:
    """Collects squared activations of a model's linear layers while it is open."""

    def __init__(self, model: Any) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, int] = {}
        self._mask: torch.Tensor | None = None
        self._handles = [
            module.register_forward_pre_hook(self._hook(name))
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
        ]

    def _hook(self, name: str) -> Callable[[Any, Any], None]:
        def hook(module: Any, inputs: Any) -> None:
            del module
            x = inputs[0].detach()
            rows = x.reshape(-1, x.shape[-1])
            if self._mask is not None and rows.shape[0] == self._mask.numel():
                rows = rows[self._mask.reshape(-1)]
            # In float64, because millions of squares are added.
            added = rows.double().square().sum(0).cpu()
            self._sums[name] = self._sums[name] + added if name in self._sums else added
            self._counts[name] = self._counts.get(name, 0) + rows.shape[0]

        return hook

    def on(self, mask: torch.Tensor) -> None:
        """Count only these positions (batch, length) of the next forward pass: no padding."""
        self._mask = mask.bool()

    def close(self) -> dict[str, torch.Tensor]:
        """Mean squared activations (in) by the name of the layer."""
        for handle in self._handles:
            handle.remove()
        return {n: (s / max(self._counts[n], 1)).float() for n, s in self._sums.items()}


def collect(
    model: Any,
    batches: Iterable[Mapping[str, torch.Tensor]],
    progress: Callable[[int], None],
) -> dict[str, torch.Tensor]:
    """Run the batches (``input_ids``, ``attention_mask``) and return mean squared activations by layer.
    ``progress(batches done)`` may raise to stop."""
    found = _Collector(model)
    device = next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            for number, batch in enumerate(batches):
                progress(number)
                mask = batch["attention_mask"].to(device)
                found.on(mask)
                model(input_ids=batch["input_ids"].to(device), attention_mask=mask, use_cache=False)
    finally:
        means = found.close()
    return means


def kinds_with_matrix(kinds: Sequence[str], settings: GgufSettings) -> list[str]:
    """Those of the quantizations for which an importance matrix is wanted."""
    if settings.importance_matrix == "never":
        return []
    return [q for q in kinds if settings.importance_matrix == "always" or q in WITH_MATRIX]


def importance_of(
    context: StepContext,
    value: ModelValue,
    settings: GgufSettings,
    names: Names,
    folder: Path,
    wanted: Sequence[str],
) -> Importance | None:
    """Compute the matrix on the rows of the model's training, whose tokens lie in ``folder`` meanwhile; ``None``,
    with a notice, if they are not known."""
    adapter = (
        AdapterValue.model_validate(value.merged_from[-1]["adapter"]) if value.merged_from else None
    )
    dataset = adapter.dataset if adapter is not None else None
    if adapter is None or dataset is None or not (Path(dataset.path) / "train").is_dir():
        context.notice(
            f"The rows of the training are not known, so that {', '.join(wanted)} are written without an importance "
            "matrix, which costs quality.",
            "Export from the run of the training, or choose Q4_K_M or more bits.",
        )
        return None
    train = settings_as_trained(adapter.train)
    place = folder / _TOKENS
    tokenizer, tokens = tokenized_as_trained(context, dataset, train, value.path, value, place)
    rows = tokens.train
    numbers = evenly_spaced(len(rows), settings.importance_rows)
    with explain_out_of_memory("importance matrix", "Set Importance matrix to Never."):
        model = load_base(
            context, value, "Loading the model for the importance matrix", roomy_device(value)
        )
        context.phase("export", "Computing the importance matrix")
        pad_id = pad_id_of(model, tokenizer)
        means = collect(
            model,
            (pad_rows(rows, [n], pad_id) for n in numbers),
            lambda done: context.progress("export", done, len(numbers), "rows"),
        )
        del model
        free_memory()
    del rows, tokens
    busy_files.tidy(place)
    context.notice(
        f"Importance matrix: {len(means)} layers, computed on {len(numbers)} training rows.",
        level="info",
    )
    columns = {names.of(f"{name}.weight"): values.numpy() for name, values in means.items()}
    return Importance(columns, frozenset(wanted), f"{len(numbers)} rows")
