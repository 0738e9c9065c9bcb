"""The kinds of variants: LoRA methods, objectives and exporters. No torch."""
