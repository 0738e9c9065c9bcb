"""Bytes of state that each optimizer stores per trained parameter.

Why a table: bitsandbytes and torch allocate it at the first step. Matrices below 4,096 elements keep
32-bit states in bitsandbytes; that is left out here, since it is a few kilobytes. Every choice of the
Train node has an entry (``tests/contracts/test_estimates.py``).
"""

from __future__ import annotations

EIGHT_BIT = 2 + 2 * 4 / 256
"""Two 8-bit states and a float32 scale for every 256 numbers of each."""

STATE_BYTES: dict[str, float | None] = {
    "adamw": 8.0,
    "adamw_fused": 8.0,
    "adamw_8bit": EIGHT_BIT,
    "paged_adamw": 0.0,
    "paged_adamw_8bit": 0.0,
    "lion": 4.0,
    "lion_8bit": EIGHT_BIT / 2,
    "ademamix": 12.0,
    "ademamix_8bit": 1.5 * EIGHT_BIT,
    "adafactor": 0.0,
    "muon": 4.0,
    "sgd": 0.0,
}
"""Per trained number. Paged states are in main memory, so they are 0 on a GPU (and 8 or 2 on a CPU, and for
small tensors: ``state_bytes``). Adafactor keeps a row and a column per matrix: next to nothing."""
_UNPAGED = {"paged_adamw": 8.0, "paged_adamw_8bit": EIGHT_BIT}
_NEVER_PAGED = {"paged_adamw": 0.0, "paged_adamw_8bit": EIGHT_BIT - 2}
"""The scales of 8-bit states."""
PAGED_FROM = 100_000
"""The numbers of a tensor from which bitsandbytes pages its states; most matrices of a LoRA are smaller."""


def state_bytes(optimizer: str, device: str) -> float | None:
    """Bytes of optimizer state per trained number, in a large tensor; ``None`` where nothing is known."""
    if device == "cpu" and optimizer in _UNPAGED:
        return _UNPAGED[optimizer]
    return STATE_BYTES.get(optimizer)


def states(optimizer: str, device: str, trained: int, small: int) -> float | None:
    """Bytes of optimizer state for ``trained`` numbers, of which ``small`` are in tensors that are not
    paged."""
    each = state_bytes(optimizer, device)
    if each is None or device == "cpu" or optimizer not in _UNPAGED:
        return None if each is None else each * trained
    return _UNPAGED[optimizer] * small + _NEVER_PAGED[optimizer] * (trained - small)
