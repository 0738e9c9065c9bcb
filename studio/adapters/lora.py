"""LoRA (Hu et al., 2021, arXiv:2106.09685): W x + (alpha / r) B A x."""

from __future__ import annotations

from studio.adapters._method import LoraMethod, lora_config
from studio.graph.node_type import Variant

VARIANT = Variant(
    kind="adapter", id="lora", title="LoRA", order=10,
    help="The plain method: two small matrices beside each chosen layer. Suits most jobs.",
    payload=LoraMethod(lora_config),
)  # fmt: skip
