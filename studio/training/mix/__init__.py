"""Several adapters of one base model combined into one."""
