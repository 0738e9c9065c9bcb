"""Where torch, transformers, peft, datasets and bitsandbytes live. Imported only inside functions elsewhere."""

import logging


def _worth_telling(record: logging.LogRecord) -> bool:
    """bitsandbytes asks every CPU user for a package that downloads compiled code: never do that. And in
    8 bits it tells at every layer of every pass that it casts: gigabytes of log in a long run."""
    said = record.getMessage()
    return "kernels-community" not in said and "inputs will be cast" not in said


# Set before anything imports peft, which imports bitsandbytes, which speaks at import.
for _name in ("bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions"):
    logging.getLogger(_name).addFilter(_worth_telling)
