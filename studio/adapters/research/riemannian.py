"""Riemannian preconditioned LoRA (Zhang and Pilanci, 2024, arXiv:2402.02347)."""

from __future__ import annotations

from studio.adapters.gradients import precondition_gradients
from studio.graph.node_type import Variant
from studio.variants.lora_method import Hooks, LoraMethod, lora_config

VARIANT = Variant(
    kind="adapter",
    id="riemannian",
    title="Riemannian LoRA",
    order=120,
    help="LoRA whose gradients are preconditioned by r × r matrices, so that A and "
    "B learn equally fast at any scale. When to use it: if the learning rate "
    "of LoRA is difficult to tune. Zhang and Pilanci 2024, arXiv:2402.02347.",
    payload=LoraMethod(
        lora_config,
        # 1e-4 in PEFT's method comparison.
        learning_rates=(2e-5, 1e-4, 1e-3),
        research=True,
        experts=True,
        paper="arXiv:2402.02347",
        hooks=Hooks(before_step=precondition_gradients),
    ),
)
