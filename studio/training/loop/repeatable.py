"""Deterministic GPU kernels for a training, so that it can be repeated to the last digit.

On a CPU sums have the same order each time. Some kernels of a GPU, mostly those of attention's backward pass, add
their parts in the order in which they finish. torch replaces them where it can, and raises an error for an operation
without another kernel. Its checks do not cover kernels of bitsandbytes. The cost was not measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from studio.errors import StudioError

_VARIABLES = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "FLASH_ATTENTION_DETERMINISTIC": "1"}
"""Read by cuBLAS and by the flash-attn package. What the user has set is kept."""


@contextmanager
def deterministic_kernels(wanted: bool, device: torch.device) -> Iterator[None]:
    """Within the block torch computes deterministically on a GPU, if ``wanted``."""
    if not wanted or device.type != "cuda":
        yield
        return
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = (
        False  # costs time, and hides nothing here
    )
    try:
        yield
    except RuntimeError as error:
        if "use_deterministic_algorithms" not in str(error):
            raise
        raise _not_repeatable(error) from error
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = filled


def _not_repeatable(error: RuntimeError) -> StudioError:
    said = str(error).strip().splitlines()[0].partition(", but ")[0].rstrip(".")
    return StudioError(
        f"this training cannot be repeated exactly on this GPU: {said}.",
        title="Not repeatable",
        hint="Turn off “Repeatable on a GPU” in the Train node.",
        field="repeatable",
        code="not_repeatable",
    )
