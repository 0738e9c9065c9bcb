"""Where torch, transformers, peft, datasets and bitsandbytes live. Imported only inside functions elsewhere."""
