"""Libraries speak to the log, never to standard output.

Why: standard output belongs to the program's own protocol (``--json``), and a progress bar in a log
file is noise. It must not hide warnings: they go to ``logging`` like every other record.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

logger = logging.getLogger("studio.libraries")

# Said about internals that we do not choose; nothing for a user to act on.
_POINTLESS = (r".*is_gradient_checkpointing. is deprecated.*",)


def quiet_libraries() -> None:
    """Send transformers' and peft's messages to ``logging`` and switch their bars off."""
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
    """Whatever is printed inside goes to the log (bitsandbytes prints while it loads)."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            yield
    finally:
        for line in text.getvalue().splitlines():
            if line.strip():
                logger.info(line)
