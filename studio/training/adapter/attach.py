"""Adapters on base models whose weights are widened for each product (``studio.training.model.wide_products``).

The layers of most PEFT methods call the base layer. Those of some compute with its weight themselves, and their base is
kept in float32 instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel

from studio.training.model.wide_products import multiplies_in_float32, narrow

_USE_WEIGHTS = frozenset({"GLORA", "SHIRA", "SUPERTUNING"})
"""Types of PEFT whose layers multiply with the weight of the base layer, or support only ``torch.nn.Linear``."""


def attach(base: Any, folder: str | Path, **options: Any) -> PeftModel:
    """``base`` with the adapter in ``folder``; ``options`` are those of ``PeftModel.from_pretrained``."""
    fit_base(base, options.get("config") or PeftConfig.from_pretrained(str(folder)))
    return PeftModel.from_pretrained(base, str(folder), **options)


def fit_base(base: Any, config: PeftConfig) -> None:
    """Convert what an adapter does not support with widened weights to float32: with some methods all of ``base``, with
    trained tokens the embedding and the output head."""
    if not multiplies_in_float32(base):
        return
    if config.peft_type in _USE_WEIGHTS:
        _convert(base)
    elif getattr(config, "trainable_token_indices", None):
        for end in (base.get_input_embeddings(), base.get_output_embeddings()):
            if end is not None:
                _convert(end)


def _convert(module: Any) -> None:
    narrow(module)
    module.float()
