"""LoRA-FA (Zhang et al., 2023, arXiv:2308.03303): A is frozen, B is trained."""

from __future__ import annotations

from studio.adapters.gradients import project_b_gradients
from studio.graph.node_type import Variant
from studio.variants.lora_method import Hooks, LoraMethod, lora_config


def _freeze(name: str) -> bool:
    return ".lora_A." in name


VARIANT = Variant(
    kind="adapter",
    id="lora_fa",
    title="LoRA-FA",
    order=110,
    help="Trains only B, and projects its gradient so that B A follows the gradient "
    "of full fine-tuning. When to use it: long rows and little memory, because "
    "the inputs of A are not stored. Zhang et al. 2023, arXiv:2308.03303.",
    payload=LoraMethod(
        lora_config,
        # 7e-5 in PEFT's example, 1e-4 in PEFT's method comparison.
        learning_rates=(2e-5, 1e-4, 1e-3),
        experts=True,
        paper="arXiv:2308.03303",
        hooks=Hooks(freeze=_freeze, before_step=project_b_gradients),
    ),
)
