"""The importance matrix: how much each input of each linear layer matters on the user's rows.

It is the mean of the squared activations per column, as llama.cpp's ``llama-imatrix`` computes it, by which the error
of a quantized weight is weighted. Columns keep their order in GGUF: only rows of Q and K are permuted.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from studio.training.export.gguf_weights import Names, Tensor


class Importance:
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
    found = Importance(model)
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


def matrix_bytes(tensors: Iterable[Tensor]) -> int:
    """An upper bound of the size of the file of ``write_matrix``."""
    return 64 + sum(4 * t.shape[-1] + len(t.name) + 12 for t in tensors if len(t.shape) > 1)


def write_matrix(path: Path, means: Mapping[str, torch.Tensor], names: Names, rows: str) -> int:
    """Write the binary format that all versions of ``llama-quantize`` read, and return the number of layers: little
    endian, the number of entries, then for each its name, the number of calls, and the values times that number; then
    the number of chunks and the name of the data."""
    with path.open("wb") as file:
        file.write(struct.pack("<i", len(means)))
        for name, values in means.items():
            encoded = names.of(f"{name}.weight").encode()
            file.write(struct.pack("<i", len(encoded)) + encoded)
            file.write(struct.pack("<ii", 1, values.numel()))
            file.write(values.numpy().astype("<f4").tobytes())
        data = rows.encode()
        file.write(struct.pack("<ii", 1, len(data)) + data)
    return len(means)
