"""One file per LoRA method; each has a constant VARIANT whose payload builds its PEFT config."""
