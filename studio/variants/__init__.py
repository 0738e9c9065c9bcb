"""What each kind of variant is: LoRA methods, objectives and exporters. No torch."""
