"""Sends the output of libraries to the log instead of standard output.

Standard output belongs to the program's own protocol (``--json``), and progress bars are noise in a
log file. Warnings are kept: they go to ``logging`` like every other record.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

logger = logging.getLogger("studio.libraries")

# Warnings about internals that a user cannot change.
_POINTLESS = (r".*is_gradient_checkpointing. is deprecated.*",)


def quiet_libraries() -> None:
    """Send the messages of transformers and peft to ``logging`` and disable their progress bars."""
    from datasets.utils.logging import disable_progress_bar as no_datasets_bar
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
    no_datasets_bar()
    for pattern in _POINTLESS:
        warnings.filterwarnings("ignore", message=pattern)


@contextlib.contextmanager
def output_to_log() -> Iterator[None]:
    """Send everything printed inside the block to the log (bitsandbytes prints while it loads)."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            yield
    finally:
        for line in text.getvalue().splitlines():
            if line.strip():
                logger.info(line)
