"""LoftQ (Li et al., 2023, arXiv:2310.08659): A and B are initialized with the quantization error of
the base.

One iteration of the paper's alternation on the base as quantized by bitsandbytes: W - Q(W) ≈ s B A.
Implemented here, because PEFT's version needs scipy and a CUDA GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.graph.node_type import Variant
from studio.variants.lora_method import Hooks, LoraMethod, TrainingFacts, lora_config


def _initialise(model: Any, config: Any, facts: TrainingFacts) -> None:
    """A and B of every 4-bit layer from the principal directions of its quantization error."""
    import torch
    from peft.tuners.lora import LoraLayer
    from peft.utils.integrations import dequantize_module_weight

    from studio.training.model.weights_file import StoredWeights

    del config
    stored = StoredWeights(Path(model.get_base_model().config._name_or_path))
    names = {entry.name for entry in stored.entries()}
    prefix = model.get_base_model().base_model_prefix
    try:
        with torch.no_grad():
            for name, layer in model.named_modules():
                if not isinstance(layer, LoraLayer) or "default" not in layer.lora_A:
                    continue
                facts.check()
                plain = name.removeprefix("base_model.model.") + ".weight"
                known = plain if plain in names else plain.removeprefix(f"{prefix}.")
                weight = stored.tensor(known).float().to(model.device)
                rounded = dequantize_module_weight(layer.get_base_layer()).float()
                _begin(layer, weight - rounded)
    finally:
        stored.close()


def _begin(layer: Any, lost: Any) -> None:
    """s B A is the best approximation of ``lost`` (out, in) with this rank."""
    import torch

    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    u, s, vh = torch.linalg.svd(lost, full_matrices=False)
    r = a.shape[0]
    root = (s[:r] / layer.scaling["default"]).sqrt()
    a.copy_(root[:, None] * vh[:r])
    b.copy_(u[:, :r] * root)


VARIANT = Variant(
    kind="adapter",
    id="loftq",
    title="LoftQ",
    order=100,
    help="LoRA initialized to compensate for the quantization error of a 4-bit "
    "base. When to use it: only on a 4-bit base (NF4). Li et al. 2023, "
    "arXiv:2310.08659.",
    payload=LoraMethod(
        lora_config,
        # 1e-4 to 3e-4 in the paper.
        learning_rates=(2e-5, 2e-4, 1e-3),
        quantized=("nf4",),
        only_quantized=True,
        paper="arXiv:2310.08659",
        cannot_merge="they also compensate for the quantization error, which the unquantized "
        "weights do not have",
        why_not_quantized="it compensates for the quantization error of NF4",
        hooks=Hooks(initialise=_initialise),
    ),
)
