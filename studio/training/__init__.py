"""Where torch, transformers, peft, datasets and bitsandbytes live. Imported only inside functions elsewhere."""

import logging


def _worth_telling(record: logging.LogRecord) -> bool:
    """bitsandbytes asks every CPU user for a package that downloads compiled code: never do that."""
    return "kernels-community" not in record.getMessage()


# Set before anything imports peft, which imports bitsandbytes, which speaks at import.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_worth_telling)
